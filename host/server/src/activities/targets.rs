//! The target of a node migration: a machine that nodes share, or a machine of the node's own, which is claimed here and destroyed
//! if the migration fails.

use host_domain::ids::MachineId;
use host_domain::migration::NodeMigration;
use host_domain::node::Node;
use host_workflows::migrate_activities::{ClaimTarget, DestroyTarget, Route, Target};
use host_workflows::node_activities::NodeRef;
use host_workflows::{Activities, ActivityContext, ActivityError};

use super::activity_error;
use super::machine_work::MachineWork;
use super::machines::{clean, machine};
use super::migration_rows::{open_in, save, still_open};
use super::nodes::read_in;
use super::{on, on_machine};
use crate::ops::{NO_TARGET, OpError, Records, claim_machine};
use crate::services::Services;
use host_machines::MachineProvider;
use host_store::{Tx, retried};

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = MachineWork::of(services, records);
    on(activities, &work, ClaimTarget, claim);
    on_machine(activities, &work, DestroyTarget, destroy);
}

/// Says what takes the node, the same at every call.
async fn claim(work: MachineWork, node: NodeRef) -> Result<Target, OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    // Claimed for twice at once, it must not get two machines.
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    let mut migration = open_in(&tx, node).await?;
    let provider = work.machines.get(&row.placement.provider);
    let provider = provider.map_err(|error| OpError::Conflict(error.to_string()))?;
    if let Some(chosen) = migration.target {
        return target(&tx, provider, &migration, chosen).await;
    }
    still_open(&migration)?;
    let chosen = if provider.is_shared() {
        work.machines.target_for(&tx, &row, now).await?
    } else {
        let beside = Some(node.operation_id);
        let claimed = claim_machine(&mut tx, provider, &row, beside, now).await?;
        claimed.map(|claimed| claimed.machine)
    };
    let chosen = chosen.ok_or_else(|| OpError::Conflict(NO_TARGET.to_owned()))?;
    migration.target = Some(chosen.id);
    save(&mut tx, &migration).await?;
    let target = target(&tx, provider, &migration, chosen.id).await?;
    tx.commit().await?;
    Ok(target)
}

async fn target(
    tx: &Tx,
    provider: &MachineProvider,
    migration: &NodeMigration,
    chosen: MachineId,
) -> Result<Target, OpError> {
    let keys = tx.node_keys(migration.node_id).await?;
    Ok(Target {
        route: Route {
            source: migration.source,
            target: chosen,
            holds_keys: keys.iter().any(|key| key.delete_after.is_none()),
        },
        is_own: !provider.is_shared(),
    })
}

/// Lets the chosen machine go.
async fn release(work: MachineWork, node: NodeRef) -> Result<(), OpError> {
    let mut tx = work.records.db.begin().await?;
    let mut migration = open_in(&tx, node).await?;
    if let Some(target) = migration.target.take() {
        tx.release_machine(target, node.node_id).await?;
        save(&mut tx, &migration).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Gives the chosen machine back, and lets it go. One that can't be given back stays the node's; it is tried again later.
async fn destroy(
    work: MachineWork,
    ctx: ActivityContext,
    node: NodeRef,
) -> Result<(), ActivityError> {
    let found = retried(|| own_target(&work, node)).await;
    if let Some(target) = found.map_err(activity_error)? {
        let machine = machine(&work, node, target).await?;
        clean(&work, &ctx, &machine).await?;
    }
    retried(|| release(work.clone(), node))
        .await
        .map_err(activity_error)
}

/// The machine that was chosen, unless others share it.
async fn own_target(work: &MachineWork, node: NodeRef) -> Result<Option<MachineId>, OpError> {
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    let Some(target) = open_in(&tx, node).await?.target else {
        return Ok(None);
    };
    if !is_own(&tx, &row, target).await? {
        return Ok(None);
    }
    if row.placement.machine_id == Some(target) {
        return Err(OpError::Conflict(
            "the node could not be taken away from the new machine, so the machine is left as it is; look at both machines, and terminate the node or migrate it again".to_owned(),
        ));
    }
    Ok(Some(target))
}

/// Whether a machine is a machine of the node's own, by what it claimed: its provider may not be declared any more.
pub(super) async fn is_own(tx: &Tx, node: &Node, machine: MachineId) -> Result<bool, OpError> {
    let claim = tx.machine_claim(machine).await?;
    Ok(claim.is_some_and(|claim| claim.node_id == node.id))
}
