//! A node's machine, from its provider: claimed, planned, created, bootstrapped and destroyed.
//!
//! A node that migrates has two machines for a while, so each activity but the claim names its machine.

use std::time::Duration;

use host_domain::agent::Machine;
use host_domain::ids::{AgentId, MachineId};
use host_domain::node::{Node, Placement};
use host_domain::time::Millis;
use host_workflows::node_activities::{
    BootstrapAgent, ClaimMachine, CreateMachine, DestroyMachine, MachineRef, NodeRef, PlanMachine,
    Reserved,
};
use host_workflows::{Activities, ActivityContext, ActivityError, Retry};

use super::activity_error;
use super::left_machines::give_back;
use super::machine_work::MachineWork;
use super::nodes::{read, read_in};
use super::operations::keep_output;
use super::{on, on_machine};
use crate::ops::{ClaimedMachine, MachineOf, OpError, Records, claim_machine, ensure_machine};
use crate::services::Services;
use host_machines::{Join, JoinAt, MachineProvider, MachineProviderError, NodeMachine};
use host_store::{Tx, retried};

/// The step whose output is the plan.
const PLAN_STEP: &str = "plan_machine";

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = MachineWork::of(services, records);
    on(activities, &work, ClaimMachine, claim);
    on_machine(activities, &work, PlanMachine, plan);
    on_machine(activities, &work, CreateMachine, create);
    on_machine(activities, &work, BootstrapAgent, bootstrap);
    on_machine(activities, &work, DestroyMachine, destroy);
}

/// Claims a machine for the node, the same one at every call.
async fn claim(work: MachineWork, node: NodeRef) -> Result<Reserved, OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    // The same node may be claimed for twice at once, and must not get two machines.
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    if let Some(machine_id) = row.placement.machine_id {
        return Ok(Reserved { machine_id });
    }
    let name = &row.placement.provider;
    let provider = work
        .machines
        .get(name)
        .map_err(|error| OpError::Conflict(error.to_string()))?;
    let claimed = if provider.is_shared() {
        shared_machine(&mut tx, provider, &row, now).await?
    } else {
        claim_machine(&mut tx, provider, &row, None, now).await?
    };
    match claimed {
        Some(ClaimedMachine { machine, address }) => take(tx, &row, &machine, address).await,
        None => Err(OpError::Conflict(format!(
            "provider `{name}` has no free machine in region `{}`; declare another one or terminate a node",
            row.placement.region
        ))),
    }
}

/// The machine that the nodes of a provider share.
async fn shared_machine(
    tx: &mut Tx,
    provider: &MachineProvider,
    node: &Node,
    now: Millis,
) -> Result<Option<ClaimedMachine>, OpError> {
    let Some(candidate) = provider.candidates(node, None).into_iter().next() else {
        return Ok(None);
    };
    let machine = MachineOf {
        provider: &node.placement.provider,
        region: &node.placement.region,
        address: candidate.address.as_deref(),
    };
    let machine = ensure_machine(tx, &candidate.name, &machine, now).await?;
    Ok(Some(ClaimedMachine {
        machine,
        address: candidate.address,
    }))
}

async fn take(
    mut tx: Tx,
    node: &Node,
    machine: &Machine,
    address: Option<String>,
) -> Result<Reserved, OpError> {
    let placement = Placement {
        machine_id: Some(machine.id),
        machine_ip: address.or_else(|| machine.ip.clone()),
        ..node.placement.clone()
    };
    tx.set_placement(node.id, &placement).await?;
    tx.commit().await?;
    Ok(Reserved {
        machine_id: machine.id,
    })
}

/// Keeps on the operation what the provider is going to do.
async fn plan(
    work: MachineWork,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&work, place.node, place.machine_id).await?;
    let provider = work
        .machines
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let join = match provider.join_at() {
        JoinAt::Never | JoinAt::Bootstrap => None,
        // Its life begins when the machine's may: once the machine was made.
        JoinAt::Plan => Some(token(&work, &machine, Retry::PROVIDER.per_try).await?),
    };
    let planned = provider.plan(&machine, join.as_ref(), &ctx).await;
    let text = planned.map_err(for_workflow)?.text;
    keep(&work.records, place.node, PLAN_STEP, text).await
}

/// Makes the machine.
async fn create(
    work: MachineWork,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&work, place.node, place.machine_id).await?;
    let provider = work
        .machines
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let created = provider
        .create(&machine, &ctx)
        .await
        .map_err(for_workflow)?;
    let found = || found_at(&work, place, created.address.as_deref());
    retried(found).await.map_err(activity_error)?;
    keep(&work.records, place.node, "create_machine", created.output).await
}

/// Records the address of the machine. The placement of a node that is not on it yet is unchanged.
async fn found_at(
    work: &MachineWork,
    machine: MachineRef,
    address: Option<&str>,
) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, machine.node).await?;
    if let Some(address) = address {
        tx.set_machine_ip(machine.machine_id, address).await?;
    }
    let is_there = row.placement.machine_id == Some(machine.machine_id);
    if is_there && row.placement.machine_ip.as_deref() != address {
        let placement = Placement {
            machine_ip: address.map(str::to_owned),
            ..row.placement
        };
        tx.set_placement(row.id, &placement).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Installs an agent on the machine, unless one is enrolled.
async fn bootstrap(
    work: MachineWork,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&work, place.node, place.machine_id).await?;
    let provider = work
        .machines
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let enrolled = work.records.db.agent_of_machine(place.machine_id).await;
    if enrolled
        .map_err(|error| activity_error(error.into()))?
        .is_some()
    {
        return Ok(());
    }
    match provider.join_at() {
        JoinAt::Never | JoinAt::Plan => Ok(()),
        JoinAt::Bootstrap => {
            let join = token(&work, &machine, Duration::ZERO).await?;
            let output = provider
                .bootstrap(&machine, &join, &ctx)
                .await
                .map_err(for_workflow)?;
            keep(&work.records, place.node, "bootstrap_agent", output).await
        }
    }
}

/// A token for the machine's agent, whose life begins after `later`; those that were issued for this node before are worth
/// nothing from here on.
async fn token(
    work: &MachineWork,
    machine: &NodeMachine,
    later: Duration,
) -> Result<Join, ActivityError> {
    let issue = || async {
        let now = work.records.now();
        let mut tx = work.records.db.begin().await?;
        tx.revoke_node_enrolment_tokens(machine.node.id, now)
            .await?;
        let (machine, node) = (&machine.record, Some(machine.node.id));
        let issued = work
            .agents
            .issue_token(&mut tx, machine, node, now.plus(later))
            .await?;
        tx.commit().await?;
        Ok::<_, OpError>(Join {
            token: issued.token,
        })
    };
    retried(issue).await.map_err(activity_error)
}

/// Destroys the machine and removes it from the node's placement.
async fn destroy(
    work: MachineWork,
    ctx: ActivityContext,
    node: NodeRef,
) -> Result<(), ActivityError> {
    let row = read(&work.records, node).await.map_err(activity_error)?;
    let Some(machine_id) = row.placement.machine_id else {
        return Ok(());
    };
    let machine = machine(&work, node, machine_id).await?;
    let provider = work
        .machines
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    if !provider.is_shared() {
        if row.condition.state.is_terminal() {
            return destroy_left(&work, &ctx, node, machine_id).await;
        }
        let output = clean(&work, &ctx, &machine).await?;
        keep(&work.records, node, "destroy_machine", output).await?;
    }
    retried(|| super::enrolment::release(work.records.clone(), node))
        .await
        .map_err(activity_error)
}

/// Gives the machine of a failed node back once more. The loop over machines that were left behind may be at it, and would
/// free it for another node: one of the two at a time.
async fn destroy_left(
    work: &MachineWork,
    ctx: &ActivityContext,
    node: NodeRef,
    machine_id: MachineId,
) -> Result<(), ActivityError> {
    let claim = work.records.db.machine_claim(machine_id).await;
    let claim = claim.map_err(|error| activity_error(error.into()))?;
    if let Some(claim) = claim.filter(|claim| claim.node_id == node.node_id) {
        let given_back = give_back(work, ctx, &claim).await;
        given_back.map_err(activity_error)?;
    }
    let row = read(&work.records, node).await.map_err(activity_error)?;
    if row.placement.machine_id == Some(machine_id) {
        let message = "the machine is not given back yet; the incident `machine_left_behind` says why, and it is tried again until it succeeds";
        return Err(ActivityError::retryable("machine_left_behind", message));
    }
    Ok(())
}

/// Revokes a machine's agents and returns the machine to its provider; the result is the provider's output.
pub(super) async fn clean(
    work: &MachineWork,
    ctx: &ActivityContext,
    machine: &NodeMachine,
) -> Result<String, ActivityError> {
    let machine_id = machine.record.id;
    let provider = &machine.node.placement.provider;
    let provider = work.machines.get(provider).map_err(for_workflow)?;
    retried(|| disconnect_agents(work, machine_id))
        .await
        .map_err(activity_error)?;
    let issued = work
        .records
        .db
        .node_has_enrolment_token(machine.node.id, machine_id)
        .await;
    let was_touched = issued.map_err(|error| activity_error(error.into()))?
        || is_dirty(&work.records, machine_id)
            .await
            .map_err(activity_error)?;
    // Before there was a token nothing was put on a machine that is reached by one: it need not be reached now.
    if !was_touched && provider.join_at() == JoinAt::Bootstrap {
        return Ok(String::new());
    }
    let destroyed = provider.destroy(machine, ctx).await;
    destroyed.map_err(|error| with_output(error.for_workflow()))
}

/// Whether something of an earlier node may be on the machine.
async fn is_dirty(records: &Records, machine: MachineId) -> Result<bool, OpError> {
    let claim = records.db.machine_claim(machine).await?;
    Ok(claim.is_some_and(|claim| claim.is_dirty))
}

/// Revokes the certificates of a machine that is destroyed.
async fn disconnect_agents(work: &MachineWork, machine_id: MachineId) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
    let revoked = revoke_agents(&mut tx, machine_id, work.records.now()).await?;
    if revoked.is_empty() {
        return Ok(());
    }
    tx.commit().await?;
    for agent in revoked {
        work.agents.sessions.disconnect(agent);
    }
    Ok(())
}

/// Revokes every agent of a machine, and says whose sessions end with that.
pub(super) async fn revoke_agents(
    tx: &mut Tx,
    machine_id: MachineId,
    now: Millis,
) -> Result<Vec<AgentId>, OpError> {
    let mut revoked = Vec::new();
    while let Some(agent) = tx.agent_of_machine(machine_id).await? {
        tx.revoke_agent(agent.id, now).await?;
        revoked.push(agent.id);
    }
    Ok(revoked)
}

pub(super) async fn machine(
    work: &MachineWork,
    node: NodeRef,
    machine_id: MachineId,
) -> Result<NodeMachine, ActivityError> {
    let read = || async {
        let row = read(&work.records, node).await?;
        let machine = work.records.db.machine(machine_id).await?;
        let machine = machine.ok_or_else(|| OpError::not_found("machine", machine_id))?;
        let operation = work.records.db.operation(node.operation_id).await?;
        let mut steps = operation.into_iter().flat_map(|operation| operation.steps);
        let planned = steps.find(|step| step.name == PLAN_STEP);
        Ok::<_, OpError>(NodeMachine {
            node: row,
            record: machine,
            planned: planned.map(|step| step.output),
        })
    };
    retried(read).await.map_err(activity_error)
}

async fn keep(
    records: &Records,
    node: NodeRef,
    step: &str,
    output: String,
) -> Result<(), ActivityError> {
    if output.is_empty() {
        return Ok(());
    }
    let kept = || keep_output(records, node.operation_id, step, &output);
    retried(kept).await.map_err(activity_error)
}

/// What can't be undone is told in one text, which a person reads: what the program said belongs to it.
fn with_output(error: ActivityError) -> ActivityError {
    if error.output.is_empty() {
        return error;
    }
    ActivityError {
        message: format!("{}\n{}", error.message, error.output),
        ..error
    }
}

fn for_workflow(error: MachineProviderError) -> ActivityError {
    error.for_workflow()
}
