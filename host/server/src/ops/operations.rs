//! Operations: listed step by step, awaited, cancelled.

use std::time::Duration;

use host_domain::ids::OperationId;
use host_domain::operation::{Operation, OperationKind, OperationState};
use host_domain::time::Millis;

use super::audit::audit;
use super::live::{LiveData, OperationMoved};
use super::records::Records;
use super::workflow_engine::WorkflowEngine;
use super::{OpError, Page, PageRequest, Principal};
use host_store::{Tx, retried};

pub use host_store::OperationFilter;

/// The longest wait of one request.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Use cases on operations.
#[derive(Clone)]
pub struct Operations {
    records: Records,
    engine: WorkflowEngine,
    /// How often the host polls for commits of other hosts.
    poll_interval: Duration,
}

impl Operations {
    pub(crate) fn new(records: Records, engine: WorkflowEngine, poll_interval: Duration) -> Self {
        Self {
            records,
            engine,
            poll_interval,
        }
    }

    /// One operation.
    async fn get(&self, id: OperationId) -> Result<Operation, OpError> {
        self.records
            .db
            .operation(id)
            .await?
            .ok_or_else(|| OpError::not_found("operation", id))
    }

    /// Operations, newest first.
    pub async fn list(
        &self,
        filter: &OperationFilter,
        page: &PageRequest,
    ) -> Result<Page<Operation>, OpError> {
        let items = self
            .records
            .db
            .list_operations(filter, page.after()?, page.rows())
            .await?;
        Ok(Page::cut(items, page, |operation| operation.id.to_string()))
    }

    /// The operation once it is over, or as it is when `wait` has passed.
    pub async fn wait(&self, id: OperationId, wait: Duration) -> Result<Operation, OpError> {
        let mut changes = self.records.db.changes();
        let poll_until_over = async {
            loop {
                changes.mark_unchanged();
                let operation = self.get(id).await?;
                if operation.state.is_over() {
                    return Ok(operation);
                }
                // A commit of another host may not wake this one.
                let changed = tokio::time::timeout(self.poll_interval, changes.changed()).await;
                if matches!(changed, Ok(Err(_))) {
                    return Ok(operation);
                }
            }
        };
        match tokio::time::timeout(wait.min(WAIT_MAX), poll_until_over).await {
            Ok(outcome) => outcome,
            Err(_) => self.get(id).await,
        }
    }

    /// Cancels an operation, which undoes its work.
    pub async fn cancel(&self, who: &Principal, id: OperationId) -> Result<Operation, OpError> {
        cancel_operation(&self.records, &self.engine, who, id).await
    }
}

/// Cancels an operation, which undoes its work.
pub(super) async fn cancel_operation(
    records: &Records,
    engine: &WorkflowEngine,
    who: &Principal,
    id: OperationId,
) -> Result<Operation, OpError> {
    retried(|| cancel_operation_once(records, engine, who, id)).await
}

pub(super) async fn cancel_operation_once(
    records: &Records,
    engine: &WorkflowEngine,
    who: &Principal,
    id: OperationId,
) -> Result<Operation, OpError> {
    let now = records.now();
    let mut tx = records.db.begin().await?;
    let operation = tx
        .operation(id)
        .await?
        .ok_or_else(|| OpError::not_found("operation", id))?;
    if who.effect_on("operation") == Some(id) {
        drop(tx);
        return engine.stop(who, operation).await;
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
    let target = format!("operation/{id}");
    audit(&mut tx, who, "cancel_operation", target, now).await?;
    tx.commit().await?;
    engine.stop(who, operation).await
}

/// Marks an operation as undoing its work.
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

/// Adds the state of an operation to the event log.
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
