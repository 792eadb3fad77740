//! Makes up for starts that were lost between a commit and the engine: every open operation has its workflow.

use std::time::Duration;

use host_domain::operation::OperationState;

use crate::app::App;
use crate::ops::{OpError, OperationFilter};

/// Operations that are looked at at once.
const PAGE: u32 = 200;
/// A younger operation is still being started by the request that made it.
const YOUNG: Duration = Duration::from_secs(3);

/// One round over operations at work.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
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
                if app.clock.now().since(operation.created_at) >= YOUNG {
                    // The id is the workflow: starting what runs or has ended does nothing.
                    app.start_workflow(operation).await?;
                }
            }
        }
    }
    Ok(())
}
