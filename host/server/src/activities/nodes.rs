//! The steps of a node's life cycle, as workflows request them.

use host_domain::incident::{Cause, Severity, SubjectKind, category};
use host_domain::node::{Node, NodeEvent, NodeState, Reason};
use host_domain::notification::node_labels;
use host_domain::operation::{Operation, OperationState, StepState};
use host_domain::time::Millis;
use host_workflows::node_activities::{
    CheckNodeHealth, FailedNode, MarkFailed, MarkSyncing, MarkTerminated, MarkTerminating, NodeRef,
    Ready, ValidateInputs,
};
use host_workflows::{Activities, Failure};

use super::on;
use super::operations::{edit_in, fail_running, write_in};
use crate::ops::{AgentLink, Chains, Change, OpError, Records, Subject, change_node, raise};
use crate::services::Services;
use host_store::Tx;

/// Code of a failure by a cancel.
pub(super) const CANCELLED: &str = "cancelled";

/// What activities on nodes work with.
#[derive(Clone)]
pub(super) struct NodeWork {
    pub(super) records: Records,
    pub(super) chains: Chains,
    pub(super) agents: AgentLink,
}

impl NodeWork {
    pub(super) fn of(services: &Services, records: &Records) -> Self {
        Self {
            records: records.clone(),
            chains: services.chains.clone(),
            agents: services.agents.clone(),
        }
    }
}

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = NodeWork::of(services, records);
    on(activities, &work, ValidateInputs, validate_inputs);
    on(activities, &work, MarkSyncing, mark_syncing);
    on(activities, &work, CheckNodeHealth, check_health);
    on(activities, &work, MarkFailed, mark_failed);
    on(activities, &work, MarkTerminating, mark_terminating);
    on(activities, &work, MarkTerminated, mark_terminated);
}

/// The chain may have changed since the request: what the workflow needs must still be there.
async fn validate_inputs(work: NodeWork, node: NodeRef) -> Result<(), OpError> {
    let node = read(&work.records, node).await?;
    let catalogue = work.chains.catalogue();
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

/// From now on agents measure the node and policies evaluate it.
async fn mark_syncing(work: NodeWork, node: NodeRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if row.condition.state == NodeState::Provisioning {
        tx.expect_beats(row.id, now).await?;
        change_node(&mut tx, &row, Change::event(NodeEvent::Installed), now).await?;
        tx.commit().await?;
    }
    work.agents.push_assignments();
    Ok(())
}

/// Whether the node has been seen healthy.
async fn check_health(work: NodeWork, node: NodeRef) -> Result<Ready, OpError> {
    let node = read(&work.records, node).await?;
    Ok(Ready {
        is_ready: node.condition.state == NodeState::Healthy,
    })
}

/// The removal starts: policies do not evaluate the node any more.
async fn mark_terminating(work: NodeWork, node: NodeRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
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
    work.agents.push_assignments();
    Ok(())
}

/// The removal is over.
async fn mark_terminated(work: NodeWork, node: NodeRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
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
    edit_in(
        &work.records,
        &mut tx,
        node.operation_id,
        |operation, now| {
            for step in operation
                .steps
                .iter_mut()
                .filter(|step| step.state == StepState::Running)
            {
                step.state = StepState::Done;
                step.at = Some(now);
            }
            operation.state = OperationState::Succeeded;
        },
    )
    .await?;
    tx.commit().await?;
    Ok(())
}

/// The end of a workflow that failed: the node, the operation and the incident in one transaction.
async fn mark_failed(work: NodeWork, failed: FailedNode) -> Result<(), OpError> {
    let now = work.records.now();
    let failure = &failed.failure;
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, failed.node).await?;
    let is_gone = row.condition.state.is_terminal();
    let operation = tx.operation(failed.node.operation_id).await?;
    let is_over = |operation: &Operation| operation.state.is_over();
    if is_gone && operation.as_ref().is_none_or(is_over) {
        return Ok(());
    }
    let row = if is_gone {
        // This was another removal of its remains.
        row
    } else {
        give_up(&mut tx, row, failure, now).await?
    };
    if let Some(operation) = operation {
        // Also one that had succeeded: its last answer was lost, and all of it is undone.
        write_in(&work.records, &mut tx, operation, |operation, now| {
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
        raise_failure(&work, &mut tx, &row, failure).await?;
    }
    tx.commit().await?;
    work.agents.push_assignments();
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

async fn raise_failure(
    work: &NodeWork,
    tx: &mut Tx,
    node: &Node,
    failure: &Failure,
) -> Result<(), OpError> {
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
    raise(
        tx,
        &work.chains.catalogue(),
        &subject,
        &cause,
        work.records.now(),
    )
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

pub(super) async fn read(records: &Records, node: NodeRef) -> Result<Node, OpError> {
    let found = records.db.node(node.node_id).await?;
    found.ok_or_else(|| OpError::not_found("node", node.node_id))
}

pub(super) async fn read_in(tx: &mut Tx, node: NodeRef) -> Result<Node, OpError> {
    let found = tx.node(node.node_id).await?;
    found.ok_or_else(|| OpError::not_found("node", node.node_id))
}
