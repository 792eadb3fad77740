//! The rows of a node migration: the migration itself, the placement of its node, and commands to agents.

use host_domain::command::{Command, CommandKind, CommandState as State};
use host_domain::ids::{AgentId, CommandId, MachineId};
use host_domain::migration::NodeMigration;
use host_domain::node::{Node, Placement};
use host_domain::time::Millis;
use host_gateway::{Order, encode_command};
use host_workflows::migrate_activities::Moving;
use host_workflows::node_activities::NodeRef;
use uuid::Uuid;

use crate::ops::{OpError, Records};
use host_store::Tx;

/// Queues a command that no workflow waits for.
pub(super) async fn queue(
    tx: &mut Tx,
    node: &Node,
    agent: AgentId,
    (order, kind): (Order, CommandKind),
    deadline: Millis,
    now: Millis,
) -> Result<(), OpError> {
    let id = CommandId(Uuid::now_v7());
    let payload = encode_command(id, node.id, deadline, &order).map_err(OpError::internal)?;
    tx.insert_command(&Command {
        id,
        node_id: node.id,
        agent_id: agent,
        kind,
        payload,
        state: State::Queued,
        result: None,
        workflow_id: None,
        mailbox: None,
        deadline,
        created_at: now,
        updated_at: now,
    })
    .await?;
    Ok(())
}

pub(super) async fn set_machine(
    tx: &mut Tx,
    node: &Node,
    machine: Option<MachineId>,
) -> Result<(), OpError> {
    let machine_ip = match machine {
        Some(id) => tx.machine(id).await?.and_then(|machine| machine.ip),
        None => None,
    };
    let placement = Placement {
        machine_id: machine,
        machine_ip,
        ..node.placement.clone()
    };
    tx.set_placement(node.id, &placement).await?;
    Ok(())
}

/// Continues from the fence of a machine. A host that was frozen during this step, and resumes after the migration has continued or
/// ended, changes nothing.
pub(super) async fn take_over_fence(
    tx: &mut Tx,
    moving: Moving,
    fenced: MachineId,
) -> Result<(), OpError> {
    let migration = open_in(tx, moving.node).await?;
    still_open(&migration)?;
    if migration.fenced != Some(fenced) || migration.fenced_at.is_none() {
        return Err(OpError::Conflict(
            "the migration has gone on without this step".to_owned(),
        ));
    }
    save(tx, &migration).await?;
    Ok(())
}

pub(super) fn still_open(migration: &NodeMigration) -> Result<(), OpError> {
    match migration.ended_at {
        None => Ok(()),
        Some(_) => Err(OpError::Conflict("the migration is over".to_owned())),
    }
}

pub(super) async fn open(records: &Records, node: NodeRef) -> Result<NodeMigration, OpError> {
    let found = records.db.node_migration(node.operation_id).await?;
    found.ok_or_else(|| OpError::not_found("migration", node.operation_id))
}

pub(super) async fn open_in(tx: &Tx, node: NodeRef) -> Result<NodeMigration, OpError> {
    let found = tx.node_migration(node.operation_id).await?;
    found.ok_or_else(|| OpError::not_found("migration", node.operation_id))
}

pub(super) async fn save(tx: &mut Tx, migration: &NodeMigration) -> Result<NodeMigration, OpError> {
    let version = tx.update_node_migration(migration).await?;
    let version = version.ok_or_else(|| OpError::stale("migration", migration.operation_id))?;
    Ok(NodeMigration {
        version,
        ..migration.clone()
    })
}
