//! Where a node runs, and the agent there.

use std::time::Duration;

use host_domain::node::Placement;
use host_workflows::Activities;
use host_workflows::node_activities::{
    CheckAgent, MachineRef, NodeRef, Ready, RevokeEnrolmentToken,
};

use super::nodes::{read, read_in};
use super::on;
use crate::ops::{AgentLink, OpError, Records};
use crate::services::Services;

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
    on(activities, &work, RevokeEnrolmentToken, revoke_tokens);
    on(activities, &work, CheckAgent, check_agent);
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
