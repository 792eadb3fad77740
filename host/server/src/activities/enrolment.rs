//! Where a node runs, and the agent there. Reserving by itself is for workflows that began before there were providers.

use std::time::Duration;

use host_domain::node::Placement;
use host_workflows::Activities;
use host_workflows::node_activities::{
    CheckAgent, IssueEnrolmentToken, MachineRef, NodeRef, Ready, ReleaseMachine, ReserveMachine,
    Reserved, RevokeEnrolmentToken,
};

use super::nodes::{read, read_in};
use super::on;
use crate::ops::{AgentLink, OpError, Records};
use crate::services::Services;
use host_machines::LOCAL;

/// What the activities of an enrolment work with.
#[derive(Clone)]
struct Enrolment {
    records: Records,
    agents: AgentLink,
    heartbeat_timeout: Duration,
}

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = Enrolment {
        records: records.clone(),
        agents: services.agents.clone(),
        heartbeat_timeout: services.config.health.heartbeat.heartbeat_timeout,
    };
    on(activities, records, ReserveMachine, reserve);
    on(activities, records, ReleaseMachine, release);
    on(activities, &work, IssueEnrolmentToken, issue_token);
    on(activities, &work, RevokeEnrolmentToken, revoke_tokens);
    on(activities, &work, CheckAgent, check_agent);
}

/// Reserves a machine for the node, the same one at every call.
async fn reserve(records: Records, node: NodeRef) -> Result<Reserved, OpError> {
    let mut tx = records.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if let Some(machine_id) = row.placement.machine_id {
        return Ok(Reserved { machine_id });
    }
    if row.placement.provider != LOCAL {
        return Err(OpError::Conflict(format!(
            "provider `{}` is not set up on this host; choose `{LOCAL}`",
            row.placement.provider
        )));
    }
    let machine = tx.machine_by_name(LOCAL).await?.ok_or_else(|| {
        OpError::Conflict(
            "there is no local machine; start an agent with `bellwether dev`".to_owned(),
        )
    })?;
    let placement = Placement {
        machine_id: Some(machine.id),
        machine_ip: machine.ip.clone(),
        ..row.placement.clone()
    };
    tx.set_placement(row.id, &placement).await?;
    tx.commit().await?;
    Ok(Reserved {
        machine_id: machine.id,
    })
}

/// Takes the node's machine away; a local machine itself stays.
pub(super) async fn release(records: Records, node: NodeRef) -> Result<(), OpError> {
    let mut tx = records.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if let Some(machine_id) = row.placement.machine_id {
        tx.release_machine(machine_id, row.id).await?;
        let placement = Placement {
            machine_id: None,
            machine_ip: None,
            ..row.placement.clone()
        };
        tx.set_placement(row.id, &placement).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Makes a token for the machine's agent, unless one is enrolled.
async fn issue_token(work: Enrolment, machine: MachineRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    if tx.agent_of_machine(machine.machine_id).await?.is_some() {
        return Ok(());
    }
    let row = tx.machine(machine.machine_id).await?;
    let row = row.ok_or_else(|| OpError::not_found("machine", machine.machine_id))?;
    work.agents
        .issue_token(&mut tx, &row, Some(machine.node.node_id), now)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Makes the tokens of this node useless.
async fn revoke_tokens(work: Enrolment, node: NodeRef) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
    tx.revoke_node_enrolment_tokens(node.node_id, work.records.now())
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Whether the machine's agent is enrolled and connected.
async fn check_agent(work: Enrolment, machine: MachineRef) -> Result<Ready, OpError> {
    read(&work.records, machine.node).await?;
    let agent = work.records.db.agent_of_machine(machine.machine_id).await?;
    let timeout = work.heartbeat_timeout;
    let is_ready = agent.is_some_and(|agent| {
        // It may be connected to another host of this database; then its beats are seen.
        let beats = agent.last_seen_at;
        work.agents.sessions.is_connected(agent.id)
            || (!work.records.db.is_sqlite()
                && beats.is_some_and(|at| work.records.now().since(at) < timeout))
    });
    Ok(Ready { is_ready })
}
