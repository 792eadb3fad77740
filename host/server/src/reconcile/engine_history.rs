//! Deletes the histories of workflows that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use host_store::Role;

use super::loops::{Loop, Pace};
use crate::orchestration::Orchestrator;
use crate::services::Services;

/// Prunes the engine's file, on its host. Temporal deletes histories after the retention of its namespace.
pub(super) fn engine_history(services: &Services, engine: &Orchestrator) -> Option<Loop> {
    let Orchestrator::Duroxide(engine) = engine else {
        return None;
    };
    let (engine, retention) = (Arc::clone(engine), services.config.retention.workflows);
    let pace = Pace::Every(Duration::from_hours(1));
    let prune = move |records: crate::ops::Records| {
        let engine = Arc::clone(&engine);
        async move { engine.prune(retention, records.now()).await.map(drop) }
    };
    Some(Loop::everyone(
        "engine history",
        Role::Orchestrator,
        pace,
        prune,
    ))
}
