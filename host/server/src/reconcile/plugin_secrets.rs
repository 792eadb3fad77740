//! Retries plugin secrets that can't be read, on every host: each reads its own.

use std::time::Duration;

use host_store::Role;

use super::loops::{Loop, Pace};
use crate::services::Services;

/// Retries the secrets that this host could not read.
pub(super) fn plugin_secrets(services: &Services) -> Loop {
    let reload = services.reload.clone();
    let pace = Pace::Every(Duration::from_secs(15));
    Loop::everyone("plugin secrets", Role::Orchestrator, pace, move |_| {
        let reload = reload.clone();
        async move { reload.retry_secrets().await }
    })
}
