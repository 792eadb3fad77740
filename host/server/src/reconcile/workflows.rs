//! Repeats starts and cancels that were lost between a commit and the engine: every open operation has its workflow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::OperationState;
use tokio::sync::Mutex;

use super::loops::{Loop, Pace};
use crate::ops::{OpError, OperationFilter, Records, WorkflowEngine};
use crate::services::Services;
use host_store::Role;

/// Operations that are read at once.
const PAGE: u32 = 200;
/// The request that created a younger operation is still starting its workflow.
const YOUNG: Duration = Duration::from_secs(3);

/// Starts workflows that were not started, on each host with an engine.
pub(super) fn workflow_starts(services: &Services) -> Loop {
    let engine = services.engine.clone();
    let cancelled = Arc::new(Mutex::new(BTreeSet::new()));
    let pace = Pace::Every(services.config.events.poll_interval);
    Loop::everyone("workflows", Role::Orchestrator, pace, move |records| {
        let (engine, cancelled) = (engine.clone(), Arc::clone(&cancelled));
        async move { round(&records, &engine, &mut *cancelled.lock().await).await }
    })
}

/// One round over open operations. `cancelled` has those whose workflow was cancelled already.
async fn round(
    records: &Records,
    engine: &WorkflowEngine,
    cancelled: &mut BTreeSet<OperationId>,
) -> Result<(), OpError> {
    let mut undoing = BTreeSet::new();
    for state in [OperationState::Running, OperationState::Undoing] {
        let filter = OperationFilter {
            node: None,
            state: Some(state),
        };
        let mut before = None;
        loop {
            let operations = records.db.list_operations(&filter, before, PAGE).await?;
            let Some(last) = operations.last() else { break };
            before = Some(last.id);
            for operation in &operations {
                if records.now().since(operation.created_at) >= YOUNG
                    // The id is the workflow: starting what runs or has ended does nothing.
                    && let Err(error) = engine.start(operation).await
                {
                    // Those behind it must not wait for it.
                    tracing::warn!(operation.id = %operation.id, "the workflow starts later: {:#}", anyhow::Error::from(error));
                }
                // Another host may have taken the cancel, or this one may have died before it told the engine.
                if state == OperationState::Undoing {
                    let cancel = engine.cancel(operation, "cancelled");
                    let knows =
                        cancelled.contains(&operation.id) || matches!(cancel.await, Ok(true));
                    undoing.extend(knows.then_some(operation.id));
                }
            }
        }
    }
    *cancelled = undoing;
    Ok(())
}
