//! A node's machine, from its provider: which one it gets, what is planned, made, put on it and given back.
//!
//! A node that moves has two of them for a while, so each step but the claim is told which one it is about.

use std::time::Duration;

use host_domain::agent::Machine;
use host_domain::ids::{AgentId, MachineId};
use host_domain::node::{Node, Placement};
use host_domain::time::Millis;
use host_workflows::node_activities::{MachineRef, NodeRef, Reserved};
use host_workflows::{ActivityContext, ActivityError, Retry};

use super::activity_error;
use super::left_machines::give_back;
use super::nodes::{read, read_in};
use super::operations::keep_output;
use crate::app::App;
use crate::ops::{Claimed, MachineOf, OpError, claim_machine, ensure_machine};
use host_machines::{Join, JoinAt, MachineProvider, MachineProviderError, NodeMachine};
use host_store::{Tx, retried};

/// The step whose output is the plan.
const PLAN_STEP: &str = "plan_machine";

/// Says which machine the node gets, the same one at every call.
pub(super) async fn claim(app: App, node: NodeRef) -> Result<Reserved, OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    // The same node may be claimed for twice at once, and must not get two machines.
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    if let Some(machine_id) = row.placement.machine_id {
        return Ok(Reserved { machine_id });
    }
    let name = &row.placement.provider;
    let provider = app
        .providers
        .get(name)
        .map_err(|error| OpError::Conflict(error.to_string()))?;
    let claimed = if provider.is_shared() {
        shared_machine(&mut tx, provider, &row, now).await?
    } else {
        claim_machine(&mut tx, provider, &row, None, now).await?
    };
    match claimed {
        Some(Claimed { machine, address }) => take(tx, &row, &machine, address).await,
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
) -> Result<Option<Claimed>, OpError> {
    let Some(candidate) = provider.candidates(node, None).into_iter().next() else {
        return Ok(None);
    };
    let machine = MachineOf {
        provider: &node.placement.provider,
        region: &node.placement.region,
        address: candidate.address.as_deref(),
    };
    let machine = ensure_machine(tx, &candidate.name, &machine, now).await?;
    Ok(Some(Claimed {
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
pub(super) async fn plan(
    app: App,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&app, place.node, place.machine_id).await?;
    let provider = app
        .providers
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let join = match provider.join_at() {
        JoinAt::Never | JoinAt::Bootstrap => None,
        // Its life begins when the machine's may: once the machine was made.
        JoinAt::Plan => Some(token(&app, &machine, Retry::PROVIDER.per_try).await?),
    };
    let planned = provider.plan(&machine, join.as_ref(), &ctx).await;
    let text = planned.map_err(for_workflow)?.text;
    keep(&app, place.node, PLAN_STEP, text).await
}

/// Makes the machine.
pub(super) async fn create(
    app: App,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&app, place.node, place.machine_id).await?;
    let provider = app
        .providers
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let created = provider
        .create(&machine, &ctx)
        .await
        .map_err(for_workflow)?;
    let found = || found_at(&app, place, created.address.as_deref());
    retried(found).await.map_err(activity_error)?;
    keep(&app, place.node, "create_machine", created.output).await
}

/// Notes where the machine is. A node that is not on it yet is where it was.
async fn found_at(app: &App, machine: MachineRef, address: Option<&str>) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
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

/// Puts an agent on the machine, unless one is enrolled already.
pub(super) async fn bootstrap(
    app: App,
    ctx: ActivityContext,
    place: MachineRef,
) -> Result<(), ActivityError> {
    let machine = machine(&app, place.node, place.machine_id).await?;
    let provider = app
        .providers
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    let enrolled = app.db.agent_of_machine(place.machine_id).await;
    if enrolled
        .map_err(|error| activity_error(error.into()))?
        .is_some()
    {
        return Ok(());
    }
    match provider.join_at() {
        JoinAt::Never | JoinAt::Plan => Ok(()),
        JoinAt::Bootstrap => {
            let join = token(&app, &machine, Duration::ZERO).await?;
            let output = provider
                .bootstrap(&machine, &join, &ctx)
                .await
                .map_err(for_workflow)?;
            keep(&app, place.node, "bootstrap_agent", output).await
        }
    }
}

/// A token for the machine's agent, whose life begins after `later`; those that were issued for this node before are worth
/// nothing from here on.
async fn token(app: &App, machine: &NodeMachine, later: Duration) -> Result<Join, ActivityError> {
    let issue = || async {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        tx.revoke_node_enrolment_tokens(machine.node.id, now)
            .await?;
        let (machine, node) = (&machine.record, Some(machine.node.id));
        let issued = app
            .issue_token(&mut tx, machine, node, now.plus(later))
            .await?;
        tx.commit().await?;
        Ok::<_, OpError>(Join {
            token: issued.token,
        })
    };
    retried(issue).await.map_err(activity_error)
}

/// Gives the machine back and takes it away from the node.
pub(super) async fn destroy(
    app: App,
    ctx: ActivityContext,
    node: NodeRef,
) -> Result<(), ActivityError> {
    let row = read(&app, node).await.map_err(activity_error)?;
    let Some(machine_id) = row.placement.machine_id else {
        return Ok(());
    };
    let machine = machine(&app, node, machine_id).await?;
    let provider = app
        .providers
        .get(&machine.node.placement.provider)
        .map_err(for_workflow)?;
    if !provider.is_shared() {
        if row.condition.state.is_terminal() {
            return destroy_left(&app, &ctx, node, machine_id).await;
        }
        let output = take_apart(&app, &ctx, &machine).await?;
        keep(&app, node, "destroy_machine", output).await?;
    }
    retried(|| super::enrolment::release(app.clone(), node))
        .await
        .map_err(activity_error)
}

/// Gives the machine of a failed node back once more. The loop over machines that were left behind may be at it, and would
/// free it for another node: one of the two at a time.
async fn destroy_left(
    app: &App,
    ctx: &ActivityContext,
    node: NodeRef,
    machine_id: MachineId,
) -> Result<(), ActivityError> {
    let claim = app.db.machine_claim(machine_id).await;
    let claim = claim.map_err(|error| activity_error(error.into()))?;
    if let Some(claim) = claim.filter(|claim| claim.node_id == node.node_id) {
        let given_back = give_back(app, ctx, &claim).await;
        given_back.map_err(activity_error)?;
    }
    let row = read(app, node).await.map_err(activity_error)?;
    if row.placement.machine_id == Some(machine_id) {
        let message = "the machine is not given back yet; the incident `machine_left_behind` says why, and it is tried again until it succeeds";
        return Err(ActivityError::retryable("machine_left_behind", message));
    }
    Ok(())
}

/// Cuts a machine's agents off and gives it back to its provider, whose words are the answer.
pub(super) async fn take_apart(
    app: &App,
    ctx: &ActivityContext,
    machine: &NodeMachine,
) -> Result<String, ActivityError> {
    let machine_id = machine.record.id;
    let provider = &machine.node.placement.provider;
    let provider = app.providers.get(provider).map_err(for_workflow)?;
    retried(|| cut_agents_off(app, machine_id))
        .await
        .map_err(activity_error)?;
    let issued = app
        .db
        .node_has_enrolment_token(machine.node.id, machine_id)
        .await;
    let was_touched = issued.map_err(|error| activity_error(error.into()))?
        || is_dirty(app, machine_id).await.map_err(activity_error)?;
    // Before there was a token nothing was put on a machine that is reached by one: it need not be reached now.
    if !was_touched && provider.join_at() == JoinAt::Bootstrap {
        return Ok(String::new());
    }
    let destroyed = provider.destroy(machine, ctx).await;
    destroyed.map_err(|error| with_output(error.for_workflow()))
}

/// Whether something of an earlier node may be on the machine.
async fn is_dirty(app: &App, machine: MachineId) -> Result<bool, OpError> {
    let claim = app.db.machine_claim(machine).await?;
    Ok(claim.is_some_and(|claim| claim.is_dirty))
}

/// Certificates of a machine that is given back are worth nothing.
async fn cut_agents_off(app: &App, machine_id: MachineId) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    let cut_off = revoke_agents(&mut tx, machine_id, app.clock.now()).await?;
    if cut_off.is_empty() {
        return Ok(());
    }
    tx.commit().await?;
    for agent in cut_off {
        app.sessions.disconnect(agent);
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
    app: &App,
    node: NodeRef,
    machine_id: MachineId,
) -> Result<NodeMachine, ActivityError> {
    let read = || async {
        let row = read(app, node).await?;
        let machine = app.db.machine(machine_id).await?;
        let machine = machine.ok_or_else(|| OpError::not_found("machine", machine_id))?;
        let operation = app.db.operation(node.operation_id).await?;
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

async fn keep(app: &App, node: NodeRef, step: &str, output: String) -> Result<(), ActivityError> {
    if output.is_empty() {
        return Ok(());
    }
    let kept = || keep_output(app, node.operation_id, step, &output);
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
