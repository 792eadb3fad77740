//! Checks the incidents of collectors. Each host checks those that its own agents reported.

use std::time::Duration;

use host_store::Role;

use super::loops::{Loop, Pace};
use crate::services::Services;

/// Checks the incidents of collectors, on every host.
pub(super) fn collectors(services: &Services) -> Loop {
    let collectors = services.collectors(Role::Health);
    let period = Duration::from_secs(2);
    Loop::everyone("collectors", Role::Health, Pace::Every(period), move |_| {
        let collectors = collectors.clone();
        async move { collectors.check().await }
    })
}
