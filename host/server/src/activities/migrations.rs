//! Moving a node: the fence between two machines, and the places on both sides of it.
//!
//! The placement says who may have a node's keys and leases. Between two machines it says nobody, and the time from which
//! it does is written down only afterwards, so that nothing may have been read before it and believed for longer.

use std::sync::Arc;

use host_domain::command::CommandKind;
use host_domain::ids::MachineId;
use host_domain::incident::{Cause, Severity, category};
use host_domain::migration::{Candidate, MigrationConfig, fence_ends, may_move};
use host_domain::node::{NodeEvent, NodeState, Reason};
use host_domain::operation::OperationState;
use host_domain::time::Millis;
use host_gateway::Order;
use host_workflows::Activities;
use host_workflows::migrate_activities::{
    CheckConcluded, CheckFence, CheckMigration, CheckSettled, FenceSource, FenceTarget, Fenced,
    MarkMigrating, MarkMigrationFailed, Moving, PlaceOnTarget, ReleaseSource, RestoreSource,
    SettledQuery,
};
use host_workflows::migrate_node::RELEASE_SOURCE;
use host_workflows::node_activities::{FailedNode, NodeRef, Ready};

use super::commands::newest_prepared;
use super::machines::revoke_agents;
use super::migration_rows::{open, open_in, queue, save, set_machine, still_open, take_over_fence};
use super::nodes::{CANCELLED, read, read_in, summary};
use super::operations::{edit_in, fail_running, finish_running, say};
use super::targets::is_own;
use super::{on, on_end};
use crate::ops::{
    AgentLink, Chains, Change, OpError, Records, Subject, candidate, change_node, health_of, raise,
    region_health, resolve,
};
use crate::services::Services;

/// How long a machine that was away may take to come back and remove what it still has of a node that has moved.
const REMOVAL: std::time::Duration = std::time::Duration::from_hours(30 * 24);
/// The same for starting a node again that could not be moved.
const RESTART: std::time::Duration = std::time::Duration::from_hours(7 * 24);
/// What an operation says of the machine that its node has left.
const GIVEN_BACK: &str = "the node has moved; its old machine is cut off, and is given back as soon as it can be reached";
/// Migrations among which a migration finds its place.
const OPEN_MAX: u32 = 1_000;

/// What the activities of a node migration work with.
#[derive(Clone)]
struct MigrationWork {
    records: Records,
    chains: Chains,
    agents: AgentLink,
    config: Arc<MigrationConfig>,
}

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = MigrationWork {
        records: records.clone(),
        chains: services.chains.clone(),
        agents: services.agents.clone(),
        config: Arc::new(services.config.migration.clone()),
    };
    on(activities, &work, CheckMigration, check);
    on(activities, &work, MarkMigrating, mark_migrating);
    on(activities, &work, FenceSource, fence_source);
    on(activities, &work, FenceTarget, fence_target);
    on(activities, &work, CheckFence, check_fence);
    on(activities, &work, PlaceOnTarget, place_on_target);
    on(activities, &work, RestoreSource, restore_source);
    on(activities, &work, CheckSettled, check_settled);
    on(activities, &work, CheckConcluded, check_concluded);
    on(activities, &work, MarkMigrationFailed, mark_failed);
    on_end(activities, &work, ReleaseSource, release_source);
}

/// Whether the migration is still allowed, now that it is its turn.
async fn check(work: MigrationWork, node: NodeRef) -> Result<(), OpError> {
    let config: &MigrationConfig = &work.config;
    let regions = region_health(&work.records.db).await?;
    let (row, migration) = (
        read(&work.records, node).await?,
        open(&work.records, node).await?,
    );
    if row.condition.state == NodeState::Provisioning {
        // A repeat: it was checked.
        return Ok(());
    }
    // Those that were asked for before come first, however many began at once.
    let open = work.records.db.open_node_migrations(OPEN_MAX).await?;
    let before = open
        .iter()
        .filter(|other| other.operation_id < migration.operation_id);
    let n_before = u32::try_from(before.count()).unwrap_or(u32::MAX);
    let earlier = work
        .records
        .db
        .newest_node_migrations(row.id, 2)
        .await?
        .into_iter();
    let earlier = earlier.filter(|other| other.operation_id != migration.operation_id);
    let known = candidate(&work.records.db, &row).await?;
    let candidate = Candidate {
        down_since: known.down_since.map(|_| Millis(0)),
        last_triggered_at: earlier.map(|other| other.triggered_at).next(),
        ..known
    };
    let config = if migration.is_forced {
        MigrationConfig {
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
        work.records.now(),
        &config,
    );
    held.map_err(|held| OpError::Conflict(held.to_string()))
}

/// From here on nobody judges the node, until it runs again somewhere.
async fn mark_migrating(work: MigrationWork, node: NodeRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
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
async fn fence_source(work: MigrationWork, moving: Moving) -> Result<Fenced, OpError> {
    fence(&work, moving, moving.route.source).await
}

/// Takes the node away from its new machine.
async fn fence_target(work: MigrationWork, moving: Moving) -> Result<Fenced, OpError> {
    fence(&work, moving, moving.route.target).await
}

async fn fence(
    work: &MigrationWork,
    moving: Moving,
    machine: MachineId,
) -> Result<Fenced, OpError> {
    let mut tx = work.records.db.begin().await?;
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
        let at = work.records.now();
        migration.fenced_at = Some(at);
        let mut tx = work.records.db.begin().await?;
        save(&mut tx, &migration).await?;
        tx.commit().await?;
        at
    };
    work.agents.push_assignments();
    Ok(Fenced { at })
}

/// Whether no lease of the fenced machine can be left.
async fn check_fence(work: MigrationWork, moving: Moving) -> Result<Ready, OpError> {
    let fenced_at = open(&work.records, moving.node).await?.fenced_at;
    let now = work.records.now();
    let is_over = |at: Millis| now >= fence_ends(at, &work.config);
    Ok(Ready {
        is_ready: fenced_at.is_some_and(is_over),
    })
}

/// Gives the node to its new machine.
async fn place_on_target(work: MigrationWork, moving: Moving) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
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
async fn restore_source(work: MigrationWork, moving: Moving) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
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
        work.agents.wake(agent.id);
    } else {
        tx.commit().await?;
    }
    work.agents.push_assignments();
    Ok(())
}

/// Whether the node is healthy and nothing about it changed for as long as asked.
async fn check_settled(work: MigrationWork, query: SettledQuery) -> Result<Ready, OpError> {
    let row = read(&work.records, query.node).await?;
    // As people see it: a node whose policy finds it critical is `healthy` to its agent.
    let is_healthy = row.condition.display_state() == NodeState::Healthy.as_str();
    Ok(Ready {
        is_ready: is_healthy && work.records.now().since(row.updated_at) >= query.settle,
    })
}

/// The end of a migration: `false` when somebody asked for its cancel before.
async fn release_source(work: MigrationWork, moving: Moving) -> Result<bool, OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, moving.node).await?;
    let mut migration = open_in(&tx, moving.node).await?;
    if migration.has_moved {
        return Ok(true);
    }
    let is_own = is_own(&tx, &row, moving.route.source).await?;
    let mut is_cancelled = false;
    edit_in(
        &work.records,
        &mut tx,
        moving.node.operation_id,
        |operation, now| {
            is_cancelled = operation.state == OperationState::Undoing;
            if !is_cancelled {
                finish_running(operation, now);
                operation.state = OperationState::Succeeded;
                if is_own {
                    say(operation, RELEASE_SOURCE, GIVEN_BACK);
                }
            }
        },
    )
    .await?;
    if is_cancelled {
        return Ok(false);
    }
    (migration.ended_at, migration.has_moved) = (Some(now), true);
    save(&mut tx, &migration).await?;
    resolve(
        &mut tx,
        &work.chains.catalogue(),
        &Subject::node(&row),
        category::MIGRATION_FAILED,
        now,
    )
    .await?;
    if is_own {
        // The machine is nobody's from here on, and what the agent has is removed with it.
        let revoked = revoke_agents(&mut tx, moving.route.source, now).await?;
        tx.commit().await?;
        for agent in revoked {
            work.agents.sessions.disconnect(agent);
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
        work.agents.wake(agent.id);
    }
    Ok(true)
}

/// Whether the node has moved.
async fn check_concluded(work: MigrationWork, node: NodeRef) -> Result<Ready, OpError> {
    let migration = open(&work.records, node).await?;
    Ok(Ready {
        is_ready: migration.has_moved,
    })
}

/// The end of a migration that failed: node, operation and incident in one transaction.
async fn mark_failed(work: MigrationWork, failed: FailedNode) -> Result<(), OpError> {
    let now = work.records.now();
    let failure = &failed.failure;
    let mut tx = work.records.db.begin().await?;
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
    edit_in(
        &work.records,
        &mut tx,
        failed.node.operation_id,
        |operation, now| {
            fail_running(operation, &failure.message, now);
            operation.state = if failure.code == CANCELLED {
                OperationState::Cancelled
            } else {
                OperationState::Failed
            };
            operation.error = Some(summary(failure));
        },
    )
    .await?;
    migration.ended_at = Some(now);
    save(&mut tx, &migration).await?;
    let is_cancelled = failure.code == CANCELLED && failure.leftovers.is_empty();
    if !is_cancelled && row.condition.state == NodeState::Down {
        let cause = Cause {
            category: category::MIGRATION_FAILED.to_owned(),
            severity: Severity::Critical,
            title: format!("{} could not be moved: `{}` failed", row.name, failure.step),
            reasons: vec![Reason::new(&*failure.code, summary(failure))],
        };
        raise(
            &mut tx,
            &work.chains.catalogue(),
            &Subject::node(&row),
            &cause,
            now,
        )
        .await?;
    }
    tx.commit().await?;
    work.agents.push_assignments();
    Ok(())
}
