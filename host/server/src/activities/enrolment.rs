//! Where a node runs, and the agent there.

use host_domain::node::Placement;
use host_workflows::node_activities::{MachineRef, NodeRef, Ready};

use super::nodes::{read, read_in};
use crate::app::App;
use crate::ops::OpError;

/// Takes the node's machine away; a local machine itself stays.
pub(super) async fn release(app: App, node: NodeRef) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
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
pub(super) async fn revoke_tokens(app: App, node: NodeRef) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    tx.revoke_node_enrolment_tokens(node.node_id, app.clock.now())
        .await?;
    tx.commit().await?;
    Ok(())
}

/// Whether the machine's agent is enrolled and connected.
pub(super) async fn check_agent(app: App, machine: MachineRef) -> Result<Ready, OpError> {
    read(&app, machine.node).await?;
    let agent = app.db.agent_of_machine(machine.machine_id).await?;
    let timeout = app.config.health.heartbeat.heartbeat_timeout;
    let is_ready = agent.is_some_and(|agent| {
        // It may be connected to another host of this database; then its beats are seen.
        let beats = agent.last_seen_at;
        app.sessions.is_connected(agent.id)
            || (!app.db.is_sqlite() && beats.is_some_and(|at| app.clock.now().since(at) < timeout))
    });
    Ok(Ready { is_ready })
}
