//! The removal of a node: asked for by a person, or by the end of its subscription, and by the same rules.

use host_domain::ids::NodeId;
use host_domain::node::Node;
use host_domain::operation::{Operation, OperationKind, OperationState, OperationStep, StepState};
use host_domain::time::Millis;
use host_workflows::terminate_node;

use super::new_operation;
use crate::app::App;
use crate::ops::audit::audit;
use crate::ops::operations::{begin_undo, log_operation};
use crate::ops::{OpError, Principal};
use host_store::{Tx, retried};

/// How the removal of a node stands in the transaction that asked for it.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    /// Nothing of the node is left.
    Gone,
    /// This operation removes it already.
    AtWork(Operation),
    /// This operation is begun, and its workflow has to be started once that counts.
    Begun(Operation),
    /// The node was still being made: this operation is undone instead, and its workflow has to hear of it.
    Undone(Operation),
    /// Two hosts may have something of the node until this operation, which moves it, has ended, either way.
    Moving(Operation),
}

impl Removal {
    /// Whether the transaction has written something.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::Begun(_) | Self::Undone(_))
    }
}

impl App {
    /// Removes a node. While it is still being made, its provisioning is cancelled and undone instead. What is left of one
    /// that failed is removed once more: each step tolerates that its object is gone. With `backup_keys` its keys are copied
    /// once more before anything is done to it; when that fails, the operation fails and the node stays as it is.
    pub async fn terminate_node(
        &self,
        who: &Principal,
        id: NodeId,
        if_version: Option<i64>,
        backup_keys: bool,
    ) -> Result<Operation, OpError> {
        if backup_keys && self.key_backup.is_none() {
            return Err(OpError::invalid(
                "/backup_keys",
                "can't be done, because no copies of keys are kept here; let an operator set `keys.backup.url`, or terminate the node without it",
            ));
        }
        retried(|| self.terminate_node_once(who, id, if_version, backup_keys)).await
    }

    async fn terminate_node_once(
        &self,
        who: &Principal,
        id: NodeId,
        if_version: Option<i64>,
        backup_keys: bool,
    ) -> Result<Operation, OpError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        // Of two at once, the second finds what the first has begun.
        tx.hold_node(id).await?;
        let node = tx
            .node(id)
            .await?
            .ok_or_else(|| OpError::not_found("node", id))?;
        if let Some(cancelled) = who.effect_on("operation") {
            drop(tx);
            return self.cancel_operation(who, cancelled).await;
        }
        let is_repeat = who.effect_on("node") == Some(id);
        if !is_repeat && if_version.is_some_and(|version| version != node.state_version) {
            return Err(OpError::stale("node", id));
        }
        let tried = if is_repeat {
            Tried::Stands
        } else {
            Tried::Anew
        };
        let asked = Asked { tried, backup_keys };
        match begin_removal(&mut tx, who, &node, asked, now).await? {
            Removal::AtWork(operation) if backup_keys && !backs_up_keys(&operation) => {
                Err(OpError::Conflict(format!(
                    "operation {} removes the node, or has removed it, without a last copy of its keys; leave `backup_keys` out",
                    operation.id
                )))
            }
            Removal::Undone(operation) if backup_keys => Err(OpError::Conflict(format!(
                "the node is still being made by operation {}, and undoing that deletes its keys; wait for its end, or leave `backup_keys` out",
                operation.id
            ))),
            Removal::AtWork(operation) if operation.kind == OperationKind::TerminateNode => {
                Ok(operation)
            }
            Removal::AtWork(operation) => {
                drop(tx);
                self.cancel_operation_once(who, operation.id).await
            }
            Removal::Moving(operation) => Err(OpError::Conflict(format!(
                "the node is being moved by operation {}; cancel it or wait for its end, and terminate the node then",
                operation.id
            ))),
            Removal::Gone => {
                let state = node.condition.state;
                Err(OpError::Conflict(format!(
                    "the node is `{state}`: nothing of it is left to remove"
                )))
            }
            Removal::Begun(operation) => {
                tx.commit().await?;
                self.begin_workflow(&operation).await;
                Ok(operation)
            }
            Removal::Undone(operation) => {
                tx.commit().await?;
                self.stop_workflow(who, operation).await
            }
        }
    }

    /// Lets the engine hear of a removal that counts. What is lost here the watch over workflows makes up for.
    pub(crate) async fn follow_removal(
        &self,
        who: &Principal,
        removal: Removal,
    ) -> Result<(), OpError> {
        match removal {
            Removal::Begun(operation) => self.start_workflow(&operation).await,
            Removal::Undone(operation) => self.stop_workflow(who, operation).await.map(drop),
            Removal::Gone | Removal::AtWork(_) | Removal::Moving(_) => Ok(()),
        }
    }
}

/// What becomes of a removal, or of an undoing, that has failed before and left something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It stays as it ended.
    Stands,
    /// It is begun anew when it failed before it had done anything to the node, and stays as it ended otherwise.
    AnewWhereWhole,
    /// It is begun anew.
    Anew,
}

/// How a node is to be removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) tried: Tried,
    /// Whether its keys are copied once more before.
    pub(crate) backup_keys: bool,
}

impl Asked {
    /// What the host asks for by itself, again and again.
    pub(crate) const BY_HOST: Self = Self {
        tried: Tried::AnewWhereWhole,
        backup_keys: false,
    };
}

/// Whether a termination copies keys: its steps say so, also to whoever starts its workflow later.
pub(in crate::ops) fn backs_up_keys(operation: &Operation) -> bool {
    let mut steps = operation.steps.iter();
    operation.kind == OperationKind::TerminateNode
        && steps.any(|step| step.name == terminate_node::BACK_UP_KEYS)
}

/// Writes down that a node is to be removed, unless that is so already. The caller holds the node.
pub(crate) async fn begin_removal(
    tx: &mut Tx,
    who: &Principal,
    node: &Node,
    asked: Asked,
    now: Millis,
) -> Result<Removal, OpError> {
    let current = match node.operation_id {
        Some(operation) => tx.operation(operation).await?,
        None => None,
    };
    let is_anew = match asked.tried {
        Tried::Stands => false,
        Tried::AnewWhereWhole => !node.condition.state.is_terminal(),
        Tried::Anew => true,
    };
    let is_left = is_anew && current.as_ref().is_some_and(has_left);
    let mut workflow_id = terminate_node::workflow_id(node.id);
    match current {
        Some(operation) if operation.kind == OperationKind::TerminateNode => {
            if !is_left {
                return Ok(Removal::AtWork(operation));
            }
            // An id stays that of a workflow that has ended.
            workflow_id = format!("{workflow_id}-{}", operation.id);
        }
        Some(operation) if operation.state.is_over() => {}
        Some(operation) if operation.kind == OperationKind::MigrateNode => {
            return Ok(Removal::Moving(operation));
        }
        Some(operation) if operation.state == OperationState::Undoing => {
            return Ok(Removal::AtWork(operation));
        }
        Some(operation) => {
            let target = format!("operation/{}", operation.id);
            let operation = begin_undo(tx, operation, now).await?;
            audit(tx, who, "cancel_operation", target, now).await?;
            return Ok(Removal::Undone(operation));
        }
        None => {}
    }
    if node.condition.state.is_terminal() && !is_left {
        return Ok(Removal::Gone);
    }
    let operation = new_operation(
        node,
        OperationKind::TerminateNode,
        workflow_id,
        &terminate_node::steps(asked.backup_keys),
        now,
    );
    tx.insert_operation(&operation).await?;
    tx.set_operation(node.id, Some(operation.id)).await?;
    log_operation(tx, &operation, now).await?;
    let target = format!("node/{}", node.id);
    audit(tx, who, "terminate_node", target, now).await?;
    Ok(Removal::Begun(operation))
}

/// Whether an operation failed and could not do, or undo, all that it had to.
fn has_left(operation: &Operation) -> bool {
    let mut steps = operation.steps.iter();
    let is_stuck =
        |step: &OperationStep| step.name.starts_with("undo: ") && step.state == StepState::Failed;
    operation.state == OperationState::Failed
        && (operation.kind == OperationKind::TerminateNode || steps.any(is_stuck))
}

#[cfg(test)]
mod tests;
