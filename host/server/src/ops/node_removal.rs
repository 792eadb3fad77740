//! The removal of a node: requested by a person, or by the end of its subscription, and by the same rules.

use host_domain::node::Node;
use host_domain::operation::{Operation, OperationKind, OperationState, OperationStep, StepState};
use host_domain::time::Millis;
use host_workflows::node_activities::NodeRef;
use host_workflows::terminate_node;

use super::audit::audit;
use super::node_making::new_operation;
use super::operations::{begin_undo, log_operation};
use super::{OpError, Principal};
use crate::config::ProvisioningConfig;
use host_store::Tx;

/// The state of a node's removal in the transaction that requested it.
#[derive(Clone, Debug)]
pub(crate) enum Removal {
    /// Nothing of the node is left.
    Gone,
    /// This operation is already removing the node.
    InProgress(Operation),
    /// This operation is new; its workflow has to be started after the commit.
    Started(Operation),
    /// The node was still being provisioned: this operation undoes its work instead, and its workflow has to be stopped.
    Undoing(Operation),
    /// Two machines may have something of the node until this operation, which migrates it, has ended, either way.
    Migrating(Operation),
}

impl Removal {
    /// Whether the transaction has changed rows.
    pub(crate) fn is_new(&self) -> bool {
        matches!(self, Self::Started(_) | Self::Undoing(_))
    }
}

/// What happens after an earlier removal or undo that failed and left something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    /// The failure stays.
    Keep,
    /// A new removal starts if the earlier one failed before it changed the node; otherwise the failure stays.
    RetryUntouched,
    /// A new removal starts.
    Retry,
}

/// How to remove a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RemovalRequest {
    pub(crate) after_failure: AfterFailure,
    /// Whether its keys are backed up once more before.
    pub(crate) backup_keys: bool,
}

impl RemovalRequest {
    /// The request that the host itself repeats.
    pub(crate) const BY_HOST: Self = Self {
        after_failure: AfterFailure::RetryUntouched,
        backup_keys: false,
    };
}

/// Whether a termination backs up keys: its steps record that for a workflow that starts later.
pub(super) fn backs_up_keys(operation: &Operation) -> bool {
    let mut steps = operation.steps.iter();
    operation.kind == OperationKind::TerminateNode
        && steps.any(|step| step.name == terminate_node::BACK_UP_KEYS)
}

/// Adds the operation that removes a node, unless there is one. The caller holds the row lock of the node.
pub(crate) async fn begin_removal(
    tx: &mut Tx,
    who: &Principal,
    node: &Node,
    request: RemovalRequest,
    now: Millis,
) -> Result<Removal, OpError> {
    let current = match node.operation_id {
        Some(operation) => tx.operation(operation).await?,
        None => None,
    };
    let retries = match request.after_failure {
        AfterFailure::Keep => false,
        AfterFailure::RetryUntouched => !node.condition.state.is_terminal(),
        AfterFailure::Retry => true,
    };
    let is_incomplete = retries && current.as_ref().is_some_and(left_something);
    let mut workflow_id = terminate_node::workflow_id(node.id);
    match current {
        Some(operation) if operation.kind == OperationKind::TerminateNode => {
            if !is_incomplete {
                return Ok(Removal::InProgress(operation));
            }
            // The id of an ended workflow can't be used again.
            workflow_id = format!("{workflow_id}-{}", operation.id);
        }
        Some(operation) if operation.state.is_over() => {}
        Some(operation) if operation.kind == OperationKind::MigrateNode => {
            return Ok(Removal::Migrating(operation));
        }
        Some(operation) if operation.state == OperationState::Undoing => {
            return Ok(Removal::InProgress(operation));
        }
        Some(operation) => {
            let target = format!("operation/{}", operation.id);
            let operation = begin_undo(tx, operation, now).await?;
            audit(tx, who, "cancel_operation", target, now).await?;
            return Ok(Removal::Undoing(operation));
        }
        None => {}
    }
    if node.condition.state.is_terminal() && !is_incomplete {
        return Ok(Removal::Gone);
    }
    let operation = new_operation(
        node,
        OperationKind::TerminateNode,
        workflow_id,
        &terminate_node::steps(request.backup_keys),
        now,
    );
    tx.insert_operation(&operation).await?;
    tx.set_operation(node.id, Some(operation.id)).await?;
    log_operation(tx, &operation, now).await?;
    let target = format!("node/{}", node.id);
    audit(tx, who, "terminate_node", target, now).await?;
    Ok(Removal::Started(operation))
}

/// Whether an operation failed and could not do, or undo, all that it had to.
fn left_something(operation: &Operation) -> bool {
    let mut steps = operation.steps.iter();
    let is_stuck =
        |step: &OperationStep| step.name.starts_with("undo: ") && step.state == StepState::Failed;
    operation.state == OperationState::Failed
        && (operation.kind == OperationKind::TerminateNode || steps.any(is_stuck))
}

/// The input of the workflow that terminates a node.
pub(super) fn workflow_input(
    node: NodeRef,
    operation: &Operation,
    config: &ProvisioningConfig,
) -> terminate_node::TerminateInput {
    terminate_node::TerminateInput {
        uninstall: config.uninstall,
        backup_keys: backs_up_keys(operation),
        ..terminate_node::TerminateInput::new(node)
    }
}
