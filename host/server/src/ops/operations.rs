//! Operations: shown step by step, waited for, cancelled.

use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::{Operation, OperationKind, OperationState};
use host_domain::time::Millis;
use host_workflows::EngineError;

use super::audit::audit;
use super::live::{LiveData, OperationMoved};
use super::{OpError, OperationFilter, Page, PageRequest, Principal};
use crate::app::App;
use host_bus::Wake;
use host_store::{Tx, retried};

/// The longest wait of one request.
const WAIT_MAX: Duration = Duration::from_mins(1);

impl App {
    /// One operation.
    pub async fn operation(&self, id: OperationId) -> Result<Operation, OpError> {
        self.db
            .operation(id)
            .await?
            .ok_or_else(|| OpError::not_found("operation", id))
    }

    /// Operations, newest first.
    pub async fn list_operations(
        &self,
        filter: &OperationFilter,
        page: &PageRequest,
    ) -> Result<Page<Operation>, OpError> {
        let items = self
            .db
            .list_operations(filter, page.after()?, page.rows())
            .await?;
        Ok(Page::cut(items, page, |operation| operation.id.to_string()))
    }

    /// The operation once it is over, or as it is when `wait` has passed.
    pub async fn wait_operation(
        &self,
        id: OperationId,
        wait: Duration,
    ) -> Result<Operation, OpError> {
        let mut changes = self.db.changes();
        let look_until_over = async {
            loop {
                changes.mark_unchanged();
                let operation = self.operation(id).await?;
                if operation.state.is_over() {
                    return Ok(operation);
                }
                // What another host commits may not be heard here.
                let look_again = self.config.events.poll_interval;
                let heard = tokio::time::timeout(look_again, changes.changed()).await;
                if matches!(heard, Ok(Err(_))) {
                    return Ok(operation);
                }
            }
        };
        match tokio::time::timeout(wait.min(WAIT_MAX), look_until_over).await {
            Ok(outcome) => outcome,
            Err(_) => self.operation(id).await,
        }
    }

    /// Asks an operation to stop and undo; one that is over stays as it is.
    pub async fn cancel_operation(
        &self,
        who: &Principal,
        id: OperationId,
    ) -> Result<Operation, OpError> {
        retried(|| self.cancel_operation_once(who, id)).await
    }

    pub(super) async fn cancel_operation_once(
        &self,
        who: &Principal,
        id: OperationId,
    ) -> Result<Operation, OpError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let operation = tx
            .operation(id)
            .await?
            .ok_or_else(|| OpError::not_found("operation", id))?;
        if who.effect_on("operation") == Some(id) {
            drop(tx);
            return self.stop_workflow(who, operation).await;
        }
        if operation.state.is_over() {
            let state = operation.state;
            return Err(OpError::Conflict(format!(
                "the operation is over: it is `{state}`"
            )));
        }
        if operation.kind == OperationKind::TerminateNode {
            return Err(OpError::Conflict(
                "a termination can't be cancelled: half a removal helps nobody".to_owned(),
            ));
        }
        let operation = begin_undo(&mut tx, operation, now).await?;
        audit(
            &mut tx,
            who,
            "cancel_operation",
            format!("operation/{id}"),
            now,
        )
        .await?;
        tx.commit().await?;
        self.stop_workflow(who, operation).await
    }

    /// Asks the workflow of a cancelled operation to undo; asking again changes nothing.
    pub(super) async fn stop_workflow(
        &self,
        who: &Principal,
        operation: Operation,
    ) -> Result<Operation, OpError> {
        if operation.state.is_over() {
            return Ok(operation);
        }
        let reason = format!("cancelled by {}", who.name);
        self.cancel_workflow(&operation, &reason).await?;
        Ok(operation)
    }

    /// Asks the workflow of an operation to undo, and says whether somebody has heard it. Elsewhere the row asks for it, and
    /// the host that runs the workflows looks.
    pub(crate) async fn cancel_workflow(
        &self,
        operation: &Operation,
        reason: &str,
    ) -> Result<bool, OpError> {
        let Some(engine) = self.engine() else {
            let operation = operation.id;
            self.bus.wake(Wake::Operation { operation });
            return Ok(true);
        };
        match engine.cancel(&operation.workflow_id, reason).await {
            Ok(()) | Err(EngineError::Ended { .. }) => Ok(true),
            // Its start was lost; the watch over workflows starts it and asks again.
            Err(EngineError::NotFound { .. }) => Ok(false),
            Err(error) => Err(OpError::Unavailable {
                what: "the workflow engine",
                source: error.into(),
            }),
        }
    }
}

/// Writes down that what an operation has done is to be undone.
pub(super) async fn begin_undo(
    tx: &mut Tx,
    operation: Operation,
    now: Millis,
) -> Result<Operation, OpError> {
    let undoing = Operation {
        state: OperationState::Undoing,
        ..operation
    };
    let operation = save_operation(tx, undoing, now).await?;
    log_operation(tx, &operation, now).await?;
    Ok(operation)
}

/// Tells event streams how an operation stands.
pub(crate) async fn log_operation(
    tx: &mut Tx,
    operation: &Operation,
    now: Millis,
) -> Result<(), OpError> {
    let node = tx.node(operation.node_id).await?;
    let moved = OperationMoved {
        id: operation.id,
        kind: operation.kind,
        state: operation.state,
        progress: operation.progress(),
        node_id: operation.node_id,
        error: operation.error.clone(),
    };
    let chain = node.map(|node| node.chain_profile_id);
    tx.append_event_log(LiveData::Operation(moved).entry(Some(operation.node_id), chain, now));
    Ok(())
}

/// Writes an operation that was read in this transaction.
pub(crate) async fn save_operation(
    tx: &mut Tx,
    operation: Operation,
    now: Millis,
) -> Result<Operation, OpError> {
    let operation = Operation {
        updated_at: now,
        ..operation
    };
    let version = tx
        .update_operation(&operation)
        .await?
        .ok_or_else(|| OpError::stale("operation", operation.id))?;
    Ok(Operation {
        version,
        ..operation
    })
}
