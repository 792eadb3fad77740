//! A node's way through its life cycle, as workflows ask for it.

use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::{Node, NodeEvent, NodeState, Reason};
use host_domain::notification::node_labels;
use host_domain::operation::{Operation, OperationState, StepState};
use host_domain::time::Millis;
use host_workflows::Failure;
use host_workflows::node_activities::{FailedNode, NodeRef, Ready};

use super::operations::{edit_in, fail_running, write_in};
use crate::app::App;
use crate::ops::{Change, OpError, Subject, change_node, raise};
use host_store::Tx;

/// Code of a failure that somebody asked for.
pub(super) const CANCELLED: &str = "cancelled";

/// The chain may have changed since the request: what the workflow needs must still be there.
pub(super) async fn validate_inputs(app: App, node: NodeRef) -> Result<(), OpError> {
    let node = read(&app, node).await?;
    let catalogue = app.catalogue();
    let chain = catalogue
        .chains
        .chains
        .get(&node.chain_profile_id)
        .ok_or_else(|| OpError::not_found("chain", &node.chain_profile_id))?;
    if !chain.recipes.contains_key(&node.node_type) {
        return Err(OpError::not_found(
            "recipe",
            format!("{}/{}", node.chain_profile_id, node.node_type),
        ));
    }
    Ok(())
}

/// From here on the node is observed and judged.
pub(super) async fn mark_syncing(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if row.condition.state == NodeState::Provisioning {
        tx.expect_beats(row.id, now).await?;
        change_node(&mut tx, &row, Change::event(NodeEvent::Installed), now).await?;
        tx.commit().await?;
    }
    app.sessions.push_assignments(app.next_generation());
    Ok(())
}

/// Whether the node has been seen healthy.
pub(super) async fn check_health(app: App, node: NodeRef) -> Result<Ready, OpError> {
    let node = read(&app, node).await?;
    Ok(Ready {
        is_ready: node.condition.state == NodeState::Healthy,
    })
}

/// The removal begins: nobody judges the node any more.
pub(super) async fn mark_terminating(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if row.condition.state != NodeState::Terminating && !row.condition.state.is_terminal() {
        change_node(
            &mut tx,
            &row,
            Change::event(NodeEvent::TerminateRequested),
            now,
        )
        .await?;
        tx.commit().await?;
    }
    app.sessions.push_assignments(app.next_generation());
    Ok(())
}

/// The removal is over.
pub(super) async fn mark_terminated(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if !row.condition.state.is_terminal() {
        change_node(
            &mut tx,
            &row,
            Change::event(NodeEvent::TerminateFinished),
            now,
        )
        .await?;
    }
    tx.delete_plugin_kv_of_node(node.node_id).await?;
    edit_in(&app, &mut tx, node.operation_id, |operation, now| {
        for step in operation
            .steps
            .iter_mut()
            .filter(|step| step.state == StepState::Running)
        {
            step.state = StepState::Done;
            step.at = Some(now);
        }
        operation.state = OperationState::Succeeded;
    })
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The end of a workflow that failed: the node, the operation and the incident in one transaction.
pub(super) async fn mark_failed(app: App, failed: FailedNode) -> Result<(), OpError> {
    let now = app.clock.now();
    let failure = &failed.failure;
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, failed.node).await?;
    let is_gone = row.condition.state.is_terminal();
    let operation = tx.operation(failed.node.operation_id).await?;
    let is_over = |operation: &Operation| operation.state.is_over();
    if is_gone && operation.as_ref().is_none_or(is_over) {
        return Ok(());
    }
    let row = if is_gone {
        // What was left of it was to be removed once more.
        row
    } else {
        give_up(&mut tx, row, failure, now).await?
    };
    if let Some(operation) = operation {
        // Also one that had succeeded: its last answer was lost, and all of it is undone.
        write_in(&app, &mut tx, operation, |operation, now| {
            fail_running(operation, &failure.message, now);
            let was_cancelled = failure.code == CANCELLED;
            operation.state = if was_cancelled {
                OperationState::Cancelled
            } else {
                OperationState::Failed
            };
            operation.error = Some(summary(failure));
        })
        .await?;
    }
    if failure.code != CANCELLED || !failure.leftovers.is_empty() {
        tell(&app, &mut tx, &row, failure).await?;
    }
    tx.commit().await?;
    app.sessions.push_assignments(app.next_generation());
    Ok(())
}

/// Moves the node to `failed`, by `terminating` where the table asks for it.
async fn give_up(
    tx: &mut Tx,
    mut row: Node,
    failure: &Failure,
    now: Millis,
) -> Result<Node, OpError> {
    if row.condition.state.next(NodeEvent::GaveUp).is_err() {
        let requested = Change::event(NodeEvent::TerminateRequested);
        row = change_node(tx, &row, requested, now).await?;
    }
    let gave_up = Change {
        reasons: Some(vec![Reason::new(&*failure.code, summary(failure))]),
        ..Change::event(NodeEvent::GaveUp)
    };
    change_node(tx, &row, gave_up, now).await
}

async fn tell(app: &App, tx: &mut Tx, node: &Node, failure: &Failure) -> Result<(), OpError> {
    let subject = Subject {
        kind: SubjectKind::Node,
        id: node.id.to_string(),
        name: node.name.clone(),
        labels: node_labels(&node.chain_profile_id, &node.node_type),
    };
    let is_clean = failure.leftovers.is_empty();
    let cause = Cause {
        category: category::PROVISION_FAILED.to_owned(),
        severity: if is_clean {
            Severity::Warning
        } else {
            Severity::Critical
        },
        title: format!("{} failed at `{}`", node.name, failure.step),
        reasons: vec![Reason::new(&*failure.code, summary(failure))],
    };
    raise(tx, &app.catalogue(), &subject, &cause, app.clock.now())
        .await
        .map(drop)
}

/// Step, message, the last lines of output, and what could not be undone.
pub(super) fn summary(failure: &Failure) -> String {
    let mut text = format!("step `{}`: {}", failure.step, failure.message);
    if !failure.output.is_empty() {
        text = format!("{text}\n{}", failure.output);
    }
    for leftover in &failure.leftovers {
        text = format!(
            "{text}\nnot undone: `{}`: {}",
            leftover.undo, leftover.message
        );
    }
    text
}

pub(super) async fn read(app: &App, node: NodeRef) -> Result<Node, OpError> {
    let found = app.db.node(node.node_id).await?;
    found.ok_or_else(|| OpError::not_found("node", node.node_id))
}

pub(super) async fn read_in(tx: &mut Tx, node: NodeRef) -> Result<Node, OpError> {
    let found = tx.node(node.node_id).await?;
    found.ok_or_else(|| OpError::not_found("node", node.node_id))
}
