//! Where a node runs, and the agent there. Reserving by itself is for workflows that began before there were providers.

use host_domain::node::Placement;
use host_workflows::node_activities::{MachineRef, NodeRef, Ready, Reserved};

use super::nodes::{read, read_in};
use crate::app::App;
use crate::ops::OpError;
use host_machines::LOCAL;

/// Gives the node a machine, the same one at every call.
pub(super) async fn reserve(app: App, node: NodeRef) -> Result<Reserved, OpError> {
    let mut tx = app.db.begin().await?;
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

/// Makes a token for the machine's agent, unless one is enrolled.
pub(super) async fn issue_token(app: App, machine: MachineRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    if tx.agent_of_machine(machine.machine_id).await?.is_some() {
        return Ok(());
    }
    let row = tx.machine(machine.machine_id).await?;
    let row = row.ok_or_else(|| OpError::not_found("machine", machine.machine_id))?;
    app.issue_token(&mut tx, &row, Some(machine.node.node_id), now)
        .await?;
    tx.commit().await?;
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
