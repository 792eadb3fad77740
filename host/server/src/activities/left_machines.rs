//! Machines that nodes left behind: the old one of a node that has moved, and what a failed node could not give back.
//!
//! They stay claimed until nothing of ours is on them. While one is cleaned nobody else is at it, and nobody takes it.

use std::time::Duration;

use host_domain::claim::{MachineClaim, cleaning_pause};
use host_domain::incident::{Cause, IncidentState, Severity, SubjectKind, category};
use host_domain::node::Reason;
use host_domain::notification::node_labels;
use host_workflows::{ActivityContext, ActivityError, Retry};

use super::machine_work::MachineWork;
use super::machines::clean;
use crate::ops::{OpError, Subject, leave, raise, resolve};
use host_machines::NodeMachine;
use host_store::retried;

/// What is added to the longest try, before another one may think that whoever was at it has died.
const MARGIN: Duration = Duration::from_mins(1);

/// Gives a machine back that its node left behind, and frees it. One that can't be is tried again after a pause, and an
/// operator is told once. Nothing is done when somebody else is at it.
pub(crate) async fn give_back(
    work: &MachineWork,
    ctx: &ActivityContext,
    claim: &MachineClaim,
) -> Result<(), OpError> {
    let Some(number) = retried(|| begin(work, claim)).await? else {
        return Ok(());
    };
    let machine = retried(|| read(work, claim)).await?;
    let limit = Retry::PROVIDER.per_try;
    let done = tokio::time::timeout(limit, clean(work, ctx, &machine)).await;
    match done {
        Ok(Ok(_)) => retried(|| free(work, claim, &machine)).await,
        Ok(Err(error)) => retried(|| put_off(work, claim, &machine, number, &error)).await,
        Err(_) => {
            let error = ActivityError::retryable("provider_timed_out", "it took too long");
            retried(|| put_off(work, claim, &machine, number, &error)).await
        }
    }
}

/// The number of this try, unless somebody else is at it or the machine is another's.
async fn begin(work: &MachineWork, claim: &MachineClaim) -> Result<Option<i64>, OpError> {
    let now = work.records.now();
    let until = now.plus(Retry::PROVIDER.per_try + MARGIN);
    let mut tx = work.records.db.begin().await?;
    let begun = tx.begin_cleaning(claim, now, until).await?;
    tx.commit().await?;
    Ok(begun)
}

async fn read(work: &MachineWork, claim: &MachineClaim) -> Result<NodeMachine, OpError> {
    let node = work.records.db.node(claim.node_id).await?;
    let machine = work.records.db.machine(claim.machine_id).await?;
    Ok(NodeMachine {
        node: node.ok_or_else(|| OpError::not_found("node", claim.node_id))?,
        record: machine.ok_or_else(|| OpError::not_found("machine", claim.machine_id))?,
        planned: None,
    })
}

async fn free(
    work: &MachineWork,
    claim: &MachineClaim,
    machine: &NodeMachine,
) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    if !tx.release_machine(claim.machine_id, claim.node_id).await? {
        return Ok(());
    }
    leave(&mut tx, claim.node_id, claim.machine_id).await?;
    let (catalogue, subject) = (work.chains.catalogue(), subject(machine));
    let category = category::MACHINE_LEFT_BEHIND;
    resolve(&mut tx, &catalogue, &subject, category, now).await?;
    tx.commit().await?;
    tracing::info!(machine.id = %claim.machine_id, node.id = %claim.node_id, "a machine that its node left behind is free again");
    Ok(())
}

async fn put_off(
    work: &MachineWork,
    claim: &MachineClaim,
    machine: &NodeMachine,
    number: i64,
    error: &ActivityError,
) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    let next = now.plus(cleaning_pause(number));
    if !tx.put_off_cleaning(claim, next).await? {
        return Ok(());
    }
    let subject = subject(machine);
    let key = subject.key(category::MACHINE_LEFT_BEHIND);
    let newest = tx.newest_incident(&key).await?;
    if newest.is_none_or(|incident| incident.state == IncidentState::Resolved) {
        let text = format!(
            "{} left it behind, and what is on it could not be removed: {}\nLook at the machine; it is tried again until it succeeds, at least once an hour",
            machine.node.name, error.message
        );
        let cause = Cause {
            category: category::MACHINE_LEFT_BEHIND.to_owned(),
            severity: Severity::Warning,
            title: format!(
                "the machine {} could not be given back",
                machine.record.name
            ),
            reasons: vec![Reason::new(&*error.code, text)],
        };
        raise(&mut tx, &work.chains.catalogue(), &subject, &cause, now).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn subject(machine: &NodeMachine) -> Subject {
    let node = &machine.node;
    Subject {
        kind: SubjectKind::Machine,
        id: machine.record.id.to_string(),
        name: machine.record.name.clone(),
        labels: node_labels(&node.chain_profile_id, &node.node_type),
    }
}
