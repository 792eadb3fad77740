//! Moving a node: the fence between two machines, and the places on both sides of it.
//!
//! The placement says who may have a node's keys and leases. Between two machines it says nobody, and the time from which
//! it does is written down only afterwards, so that nothing may have been read before it and believed for longer.

use host_domain::command::{Command, CommandKind, CommandState as State};
use host_domain::ids::{CommandId, MachineId};
use host_domain::incident::{Cause, Severity, category};
use host_domain::migration::{Candidate, NodeMigration, fence_ends, may_move};
use host_domain::node::{Node, NodeEvent, NodeState, Placement, Reason};
use host_domain::operation::OperationState;
use host_domain::time::Millis;
use host_gateway::{Order, encode_command};
use host_workflows::migrate_activities::{Fenced, Moving, SettledQuery};
use host_workflows::migrate_node::RELEASE_SOURCE;
use host_workflows::node_activities::{FailedNode, NodeRef, Ready};
use uuid::Uuid;

use super::commands::newest_prepared;
use super::machines::revoke_agents;
use super::nodes::{CANCELLED, read, read_in, summary};
use super::operations::{edit_in, fail_running, finish_running, say};
use super::targets::is_own;
use crate::app::App;
use crate::ops::{Change, OpError, Subject, candidate, change_node, health_of, raise, resolve};
use host_store::Tx;

/// How long a machine that was away may take to come back and remove what it still has of a node that has moved.
const REMOVAL: std::time::Duration = std::time::Duration::from_hours(30 * 24);
/// The same for starting a node again that could not be moved.
const RESTART: std::time::Duration = std::time::Duration::from_hours(7 * 24);
/// What an operation says of the machine that its node has left.
const GIVEN_BACK: &str = "the node has moved; its old machine is cut off, and is given back as soon as it can be reached";
/// Migrations among which a migration finds its place.
const OPEN_MAX: u32 = 1_000;

/// Whether it is still right to move the node, now that it is this migration's turn.
pub(super) async fn check(app: App, node: NodeRef) -> Result<(), OpError> {
    let config = &app.config.migration;
    let regions = app.region_health(&app.db).await?;
    let (row, migration) = (read(&app, node).await?, open(&app, node).await?);
    if row.condition.state == NodeState::Provisioning {
        // A repeat: it was checked.
        return Ok(());
    }
    // Those that were asked for before come first, however many began at once.
    let open = app.db.open_node_migrations(OPEN_MAX).await?;
    let before = open
        .iter()
        .filter(|other| other.operation_id < migration.operation_id);
    let n_before = u32::try_from(before.count()).unwrap_or(u32::MAX);
    let earlier = app.db.newest_node_migrations(row.id, 2).await?.into_iter();
    let earlier = earlier.filter(|other| other.operation_id != migration.operation_id);
    let known = candidate(&app.db, &row).await?;
    let candidate = Candidate {
        down_since: known.down_since.map(|_| Millis(0)),
        last_triggered_at: earlier.map(|other| other.triggered_at).next(),
        ..known
    };
    let config = if migration.is_forced {
        host_domain::migration::MigrationConfig {
            cooldown: std::time::Duration::ZERO,
            breaker_percent: 100,
            ..config.clone()
        }
    } else {
        config.clone()
    };
    let held = may_move(
        &candidate,
        health_of(&regions, &row),
        n_before,
        app.clock.now(),
        &config,
    );
    held.map_err(|held| OpError::Conflict(held.to_string()))
}

/// From here on nobody judges the node, until it runs again somewhere.
pub(super) async fn mark_migrating(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    if row.condition.state != NodeState::Provisioning {
        change_node(
            &mut tx,
            &row,
            Change::event(NodeEvent::MigrationStarted),
            now,
        )
        .await?;
        tx.expect_beats(row.id, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Takes the node away from its old machine.
pub(super) async fn fence_source(app: App, moving: Moving) -> Result<Fenced, OpError> {
    fence(&app, moving, moving.route.source).await
}

/// Takes the node away from its new machine.
pub(super) async fn fence_target(app: App, moving: Moving) -> Result<Fenced, OpError> {
    fence(&app, moving, moving.route.target).await
}

async fn fence(app: &App, moving: Moving, machine: MachineId) -> Result<Fenced, OpError> {
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, moving.node).await?;
    let mut migration = open_in(&tx, moving.node).await?;
    still_open(&migration)?;
    // A fence that stands is left as it is: somebody may be waiting for it already.
    if row.placement.machine_id.is_some() || migration.fenced != Some(machine) {
        (migration.fenced, migration.fenced_at) = (Some(machine), None);
        migration = save(&mut tx, &migration).await?;
        set_machine(&mut tx, &row, None).await?;
        tx.commit().await?;
    } else {
        drop(tx);
    }
    let at = if let Some(at) = migration.fenced_at {
        at
    } else {
        // Only now it is sure that whoever reads the node finds it taken away.
        let at = app.clock.now();
        migration.fenced_at = Some(at);
        let mut tx = app.db.begin().await?;
        save(&mut tx, &migration).await?;
        tx.commit().await?;
        at
    };
    app.sessions.push_assignments(app.next_generation());
    Ok(Fenced { at })
}

/// Whether no lease of the fenced machine can be left.
pub(super) async fn check_fence(app: App, moving: Moving) -> Result<Ready, OpError> {
    let fenced_at = open(&app, moving.node).await?.fenced_at;
    let now = app.clock.now();
    let is_over = |at: Millis| now >= fence_ends(at, &app.config.migration);
    Ok(Ready {
        is_ready: fenced_at.is_some_and(is_over),
    })
}

/// Gives the node to its new machine.
pub(super) async fn place_on_target(app: App, moving: Moving) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, moving.node).await?;
    if row.placement.machine_id == Some(moving.route.target) {
        return Ok(());
    }
    take_over_fence(&mut tx, moving, moving.route.source).await?;
    set_machine(&mut tx, &row, Some(moving.route.target)).await?;
    tx.commit().await?;
    Ok(())
}

/// Gives the node back to its old machine, which starts what it has stopped.
pub(super) async fn restore_source(app: App, moving: Moving) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, moving.node).await?;
    if row.placement.machine_id == Some(moving.route.source) {
        return Ok(());
    }
    take_over_fence(&mut tx, moving, moving.route.target).await?;
    set_machine(&mut tx, &row, Some(moving.route.source)).await?;
    if let Some(agent) = tx.agent_of_machine(moving.route.source).await? {
        if let Some((_, ports)) = newest_prepared(&tx, row.id, agent.id).await? {
            tx.set_ports(row.id, &ports).await?;
        }
        queue(
            &mut tx,
            &row,
            agent.id,
            (Order::Start, CommandKind::Start),
            now.plus(RESTART),
            now,
        )
        .await?;
        tx.commit().await?;
        app.wake_agent(agent.id);
    } else {
        tx.commit().await?;
    }
    app.sessions.push_assignments(app.next_generation());
    Ok(())
}

/// Whether the node is healthy and nothing about it changed for as long as asked.
pub(super) async fn check_settled(app: App, query: SettledQuery) -> Result<Ready, OpError> {
    let row = read(&app, query.node).await?;
    // As people see it: a node whose policy finds it critical is `healthy` to its agent.
    let is_healthy = row.condition.display_state() == NodeState::Healthy.as_str();
    Ok(Ready {
        is_ready: is_healthy && app.clock.now().since(row.updated_at) >= query.settle,
    })
}

/// The end of a migration: `false` when somebody asked for its cancel before.
pub(super) async fn release_source(app: App, moving: Moving) -> Result<bool, OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, moving.node).await?;
    let mut migration = open_in(&tx, moving.node).await?;
    if migration.has_moved {
        return Ok(true);
    }
    let is_own = is_own(&tx, &row, moving.route.source).await?;
    let mut is_cancelled = false;
    edit_in(&app, &mut tx, moving.node.operation_id, |operation, now| {
        is_cancelled = operation.state == OperationState::Undoing;
        if !is_cancelled {
            finish_running(operation, now);
            operation.state = OperationState::Succeeded;
            if is_own {
                say(operation, RELEASE_SOURCE, GIVEN_BACK);
            }
        }
    })
    .await?;
    if is_cancelled {
        return Ok(false);
    }
    (migration.ended_at, migration.has_moved) = (Some(now), true);
    save(&mut tx, &migration).await?;
    resolve(
        &mut tx,
        &app.catalogue(),
        &Subject::node(&row),
        category::MIGRATION_FAILED,
        now,
    )
    .await?;
    if is_own {
        // The machine is nobody's from here on, and what the agent has is removed with it.
        let cut_off = revoke_agents(&mut tx, moving.route.source, now).await?;
        tx.commit().await?;
        for agent in cut_off {
            app.sessions.disconnect(agent);
        }
        return Ok(true);
    }
    let agent = tx.agent_of_machine(moving.route.source).await?;
    if let Some(agent) = &agent {
        let order = (Order::Uninstall, CommandKind::Uninstall);
        queue(&mut tx, &row, agent.id, order, now.plus(REMOVAL), now).await?;
    }
    tx.commit().await?;
    if let Some(agent) = agent {
        app.wake_agent(agent.id);
    }
    Ok(true)
}

/// Whether the node has moved.
pub(super) async fn check_concluded(app: App, node: NodeRef) -> Result<Ready, OpError> {
    let migration = open(&app, node).await?;
    Ok(Ready {
        is_ready: migration.has_moved,
    })
}

/// The end of a migration that failed: node, operation and incident in one transaction.
pub(super) async fn mark_failed(app: App, failed: FailedNode) -> Result<(), OpError> {
    let now = app.clock.now();
    let failure = &failed.failure;
    let mut tx = app.db.begin().await?;
    let mut row = read_in(&mut tx, failed.node).await?;
    let mut migration = open_in(&tx, failed.node).await?;
    if migration.ended_at.is_some() {
        return Ok(());
    }
    let was_touched = migration.fenced.is_some();
    let state = row.condition.state;
    // A node that came back by itself before anything was done to it is left alone.
    if state == NodeState::Provisioning || (was_touched && state.is_judged()) {
        let change = Change {
            reasons: Some(vec![Reason::new(&*failure.code, summary(failure))]),
            ..Change::event(NodeEvent::MigrationFailed)
        };
        row = change_node(&mut tx, &row, change, now).await?;
        tx.expect_beats(row.id, now).await?;
    }
    edit_in(&app, &mut tx, failed.node.operation_id, |operation, now| {
        fail_running(operation, &failure.message, now);
        operation.state = if failure.code == CANCELLED {
            OperationState::Cancelled
        } else {
            OperationState::Failed
        };
        operation.error = Some(summary(failure));
    })
    .await?;
    migration.ended_at = Some(now);
    save(&mut tx, &migration).await?;
    let is_wanted = failure.code == CANCELLED && failure.leftovers.is_empty();
    if !is_wanted && row.condition.state == NodeState::Down {
        let cause = Cause {
            category: category::MIGRATION_FAILED.to_owned(),
            severity: Severity::Critical,
            title: format!("{} could not be moved: `{}` failed", row.name, failure.step),
            reasons: vec![Reason::new(&*failure.code, summary(failure))],
        };
        raise(&mut tx, &app.catalogue(), &Subject::node(&row), &cause, now).await?;
    }
    tx.commit().await?;
    app.sessions.push_assignments(app.next_generation());
    Ok(())
}

async fn queue(
    tx: &mut Tx,
    node: &Node,
    agent: host_domain::ids::AgentId,
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

async fn set_machine(tx: &mut Tx, node: &Node, machine: Option<MachineId>) -> Result<(), OpError> {
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

/// Goes on from the fence of a machine, as the only one: a machine that was frozen with this step in hand, and that thaws when
/// the migration has gone on, or ended, changes nothing any more.
async fn take_over_fence(tx: &mut Tx, moving: Moving, fenced: MachineId) -> Result<(), OpError> {
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

async fn open(app: &App, node: NodeRef) -> Result<NodeMigration, OpError> {
    let found = app.db.node_migration(node.operation_id).await?;
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
