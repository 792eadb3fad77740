//! Makes up for starts that were lost between a commit and the engine: every open operation has its workflow.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::OperationState;
use tokio::sync::Mutex;

use crate::app::App;
use crate::ops::{OpError, OperationFilter};

/// Operations that are looked at at once.
const PAGE: u32 = 200;
/// A younger operation is still being started by the request that made it.
const YOUNG: Duration = Duration::from_secs(3);

/// Looks until the app ends.
pub(crate) async fn run(app: App) {
    let told = Arc::new(Mutex::new(BTreeSet::new()));
    let look_again = app.config.events.poll_interval;
    super::every(app, "workflows", look_again, move |app| {
        let told = Arc::clone(&told);
        async move { round(app, &mut *told.lock().await).await }
    })
    .await;
}

/// One round over operations at work. `told` are those whose workflow knows that it is cancelled.
async fn round(app: App, told: &mut BTreeSet<OperationId>) -> Result<(), OpError> {
    let mut undoing = BTreeSet::new();
    for state in [OperationState::Running, OperationState::Undoing] {
        let filter = OperationFilter {
            node: None,
            state: Some(state),
        };
        let mut before = None;
        loop {
            let operations = app.db.list_operations(&filter, before, PAGE).await?;
            let Some(last) = operations.last() else { break };
            before = Some(last.id);
            for operation in &operations {
                if app.clock.now().since(operation.created_at) >= YOUNG
                    // The id is the workflow: starting what runs or has ended does nothing.
                    && let Err(error) = app.start_workflow(operation).await
                {
                    // Those behind it must not wait for it.
                    tracing::warn!(operation.id = %operation.id, "the workflow is begun later: {:#}", anyhow::Error::from(error));
                }
                // Another host may have taken the cancel, or this one may have died before it told the engine.
                if state == OperationState::Undoing {
                    let asked = app.cancel_workflow(operation, "cancelled");
                    let knows = told.contains(&operation.id) || matches!(asked.await, Ok(true));
                    undoing.extend(knows.then_some(operation.id));
                }
            }
        }
    }
    *told = undoing;
    Ok(())
}
