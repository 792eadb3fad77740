//! The progress of an operation.

use host_domain::ids::OperationId;
use host_domain::operation::{Operation, OperationState, OperationStep, StepState};
use host_domain::time::Millis;
use host_workflows::Activities;
use host_workflows::node_activities::{
    FailOperation, FailedNode, FinishOperation, NodeRef, ReportStep, StepReport,
    StepState as Reported,
};

use super::nodes::summary;
use super::{on, on_end};
use crate::ops::{OpError, Records, log_operation, save_operation};
use crate::services::Services;
use host_store::Tx;

pub(super) fn register(activities: &mut Activities, _: &Services, records: &Records) {
    on(activities, records, ReportStep, report_step);
    on_end(activities, records, FinishOperation, finish);
    on(activities, records, FailOperation, fail);
}

/// Records the state of a step. A step that begins ends the one before it.
async fn report_step(records: Records, report: StepReport) -> Result<(), OpError> {
    edit(&records, report.operation_id, |operation, now| {
        if report.state == Reported::Started {
            finish_running(operation, now);
        }
        let (state, name) = match report.state {
            Reported::Started => (StepState::Running, report.step.clone()),
            Reported::Undone => (StepState::Done, format!("undo: {}", report.step)),
            Reported::UndoFailed => (StepState::Failed, format!("undo: {}", report.step)),
        };
        if report.state != Reported::Started && operation.state == OperationState::Running {
            operation.state = OperationState::Undoing;
            fail_running(operation, "", now);
        }
        set_step(operation, &name, state, &report.message, now);
    })
    .await
}

/// Closes the operation as succeeded; `false` if a cancel came first.
async fn finish(records: Records, node: NodeRef) -> Result<bool, OpError> {
    let mut is_cancelled = false;
    edit(&records, node.operation_id, |operation, now| {
        is_cancelled = operation.state == OperationState::Undoing;
        if !is_cancelled {
            finish_running(operation, now);
            operation.state = OperationState::Succeeded;
        }
    })
    .await?;
    Ok(!is_cancelled)
}

/// Closes the operation as failed; nothing was done to its node.
async fn fail(records: Records, failed: FailedNode) -> Result<(), OpError> {
    let failure = &failed.failure;
    edit(&records, failed.node.operation_id, |operation, now| {
        fail_running(operation, &failure.message, now);
        operation.state = OperationState::Failed;
        operation.error = Some(summary(failure));
    })
    .await
}

/// Reads, changes and writes an operation that is not over; one that is over stays as it is.
async fn edit(
    records: &Records,
    id: OperationId,
    change: impl FnOnce(&mut Operation, Millis),
) -> Result<(), OpError> {
    let mut tx = records.db.begin().await?;
    edit_in(records, &mut tx, id, change).await?;
    tx.commit().await?;
    Ok(())
}

pub(super) async fn edit_in(
    records: &Records,
    tx: &mut Tx,
    id: OperationId,
    change: impl FnOnce(&mut Operation, Millis),
) -> Result<(), OpError> {
    match tx.operation(id).await? {
        Some(operation) if !operation.state.is_over() => {
            write_in(records, tx, operation, change).await
        }
        _ => Ok(()),
    }
}

/// Changes and writes an operation, also one that is over.
pub(super) async fn write_in(
    records: &Records,
    tx: &mut Tx,
    mut operation: Operation,
    change: impl FnOnce(&mut Operation, Millis),
) -> Result<(), OpError> {
    let now = records.now();
    change(&mut operation, now);
    let operation = save_operation(tx, operation, now).await?;
    log_operation(tx, &operation, now).await
}

/// Keeps what the programs of a step said.
pub(super) async fn keep_output(
    records: &Records,
    id: OperationId,
    step: &str,
    output: &str,
) -> Result<(), OpError> {
    edit(records, id, |operation, now| {
        for one in operation.steps.iter_mut().filter(|one| one.name == step) {
            output.clone_into(&mut one.output);
            one.at = Some(now);
        }
    })
    .await
}

fn set_step(operation: &mut Operation, name: &str, state: StepState, message: &str, now: Millis) {
    if !operation.steps.iter().any(|step| step.name == name) {
        operation.steps.push(OperationStep::pending(name));
    }
    for step in operation.steps.iter_mut().filter(|step| step.name == name) {
        step.state = state;
        message.clone_into(&mut step.message);
        step.fraction = None;
        step.at = Some(now);
    }
}

/// Says something about a step.
pub(super) fn say(operation: &mut Operation, step: &str, message: &str) {
    let steps = operation.steps.iter_mut();
    for one in steps.filter(|one| one.name == step) {
        message.clone_into(&mut one.message);
    }
}

pub(super) fn finish_running(operation: &mut Operation, now: Millis) {
    for step in operation
        .steps
        .iter_mut()
        .filter(|step| step.state == StepState::Running)
    {
        step.state = StepState::Done;
        step.fraction = None;
        step.message.clear();
        step.at = Some(now);
    }
}

/// Marks what was at work as failed; `message` replaces what it said unless empty.
pub(super) fn fail_running(operation: &mut Operation, message: &str, now: Millis) {
    for step in operation
        .steps
        .iter_mut()
        .filter(|step| step.state == StepState::Running)
    {
        step.state = StepState::Failed;
        if !message.is_empty() {
            message.clone_into(&mut step.message);
        }
        step.at = Some(now);
    }
}
