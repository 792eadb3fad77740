//! What takes a node that moves: a machine that others share, or a machine of its own, which is claimed here and given back when
//! the node does not come.

use host_domain::ids::MachineId;
use host_domain::migration::NodeMigration;
use host_domain::node::Node;
use host_workflows::migrate_activities::{Route, Target};
use host_workflows::node_activities::NodeRef;
use host_workflows::{ActivityContext, ActivityError};

use super::activity_error;
use super::machines::{machine, take_apart};
use super::migrations::{open_in, save, still_open};
use super::nodes::read_in;
use crate::app::App;
use crate::ops::{NO_TARGET, OpError, claim_machine};
use host_machines::MachineProvider;
use host_store::{Tx, retried};

/// Says what takes the node, the same at every call.
pub(super) async fn claim(app: App, node: NodeRef) -> Result<Target, OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    // Claimed for twice at once, it must not get two machines.
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    let mut migration = open_in(&tx, node).await?;
    let provider = app.providers.get(&row.placement.provider);
    let provider = provider.map_err(|error| OpError::Conflict(error.to_string()))?;
    if let Some(chosen) = migration.target {
        return target(&tx, provider, &migration, chosen).await;
    }
    still_open(&migration)?;
    let chosen = if provider.is_shared() {
        app.target_for(&tx, &row, now).await?
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
async fn release(app: App, node: NodeRef) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    let mut migration = open_in(&tx, node).await?;
    if let Some(target) = migration.target.take() {
        tx.release_machine(target, node.node_id).await?;
        save(&mut tx, &migration).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Gives the chosen machine back, and lets it go. One that can't be given back stays the node's; it is tried again later.
pub(super) async fn destroy(
    app: App,
    ctx: ActivityContext,
    node: NodeRef,
) -> Result<(), ActivityError> {
    let found = retried(|| own_target(&app, node)).await;
    if let Some(target) = found.map_err(activity_error)? {
        let machine = machine(&app, node, target).await?;
        take_apart(&app, &ctx, &machine).await?;
    }
    retried(|| release(app.clone(), node))
        .await
        .map_err(activity_error)
}

/// The machine that was chosen, unless others share it.
async fn own_target(app: &App, node: NodeRef) -> Result<Option<MachineId>, OpError> {
    let mut tx = app.db.begin().await?;
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
