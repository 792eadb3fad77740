//! The loops of the embedded workflow engine: they measure its queues, and delete the histories of workflows that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use host_engine::duroxide::DuroxideEngine;
use host_store::Role;

use super::loops::{Loop, Pace};
use crate::ops::Records;
use crate::orchestration::Orchestrator;
use crate::services::Services;

/// The loops on the engine's file, on its host. Temporal deletes histories after the retention of its namespace.
pub(super) fn embedded_engine(services: &Services, engine: &Orchestrator) -> Vec<Loop> {
    let Some(engine) = engine.embedded() else {
        return Vec::new();
    };
    vec![engine_queues(engine), engine_history(services, engine)]
}

fn engine_queues(engine: &Arc<DuroxideEngine>) -> Loop {
    let (engine, pace) = (Arc::clone(engine), Pace::Every(Duration::from_secs(15)));
    Loop::everyone("engine queues", Role::Orchestrator, pace, move |_| {
        let engine = Arc::clone(&engine);
        async move { engine.measure().await }
    })
}

fn engine_history(services: &Services, engine: &Arc<DuroxideEngine>) -> Loop {
    let (engine, retention) = (Arc::clone(engine), services.config.retention.workflows);
    let pace = Pace::Every(Duration::from_hours(1));
    let prune = move |records: Records| {
        let engine = Arc::clone(&engine);
        async move { engine.prune(retention, records.now()).await.map(drop) }
    };
    Loop::everyone("engine history", Role::Orchestrator, pace, prune)
}
