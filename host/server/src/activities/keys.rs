//! Keys of a node: made sealed, deleted when the node never was, kept for a while when it is gone.

use host_domain::ids::KeyId;
use host_domain::key::NodeKey;
use host_domain::node::Node;
use host_domain::time::Millis;
use host_workflows::node_activities::NodeRef;
use uuid::Uuid;

use super::nodes::{read, read_in};
use crate::app::App;
use crate::keys::{SealScope, generate};
use crate::ops::{LiveData, NodeHappening, OpError};
use crate::store::{NodeEventEntry, Tx};

/// Makes what the profile declares and the node does not have yet.
pub(super) async fn generate_missing(app: App, node: NodeRef) -> Result<(), OpError> {
    let row = read(&app, node).await?;
    let catalogue = app.catalogue();
    let chain = catalogue.chains.chains.get(&row.chain_profile_id);
    let chain = chain.ok_or_else(|| OpError::not_found("chain", &row.chain_profile_id))?;
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let mut made = Vec::new();
    for (name, used) in &chain.profile.keys {
        if tx.node_key(row.id, name).await?.is_some() {
            continue;
        }
        let (material, public_key) = generate(used.algorithm).map_err(OpError::internal)?;
        let scope = SealScope {
            node_id: row.id,
            name,
        };
        let sealed = app.master_keys.seal(&scope, &material);
        let key = NodeKey {
            id: KeyId(Uuid::now_v7()),
            node_id: row.id,
            name: name.clone(),
            algorithm: used.algorithm,
            public_key,
            sealed: sealed.map_err(OpError::internal)?,
            created_at: now,
            delete_after: None,
            version: 1,
        };
        tx.insert_node_key(&key).await?;
        made.push(key.name);
    }
    if made.is_empty() {
        return Ok(());
    }
    tell(&mut tx, &row, ("keys_generated", &made), now).await?;
    tx.commit().await?;
    Ok(())
}

/// Deletes the node's keys at once.
pub(super) async fn delete(app: App, node: NodeRef) -> Result<(), OpError> {
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    if tx.delete_node_keys(row.id).await? > 0 {
        tell(&mut tx, &row, ("keys_deleted", &names), app.clock.now()).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// From the retention's end on the cleaner deletes them.
pub(super) async fn retire(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    let delete_after = now.plus(app.config.retention.keys);
    if tx.retire_node_keys(row.id, delete_after).await? > 0 {
        tell(&mut tx, &row, ("keys_retired", &names), now).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn names(tx: &mut Tx, node: &Node) -> Result<Vec<String>, OpError> {
    let keys = tx.node_keys(node.id).await?;
    Ok(keys.into_iter().map(|key| key.name).collect())
}

/// A line of the node's history with the names: an event never has more of a key.
async fn tell(
    tx: &mut Tx,
    node: &Node,
    (kind, names): (&str, &[String]),
    now: Millis,
) -> Result<(), OpError> {
    let entry = NodeEventEntry {
        id: Uuid::now_v7().to_string(),
        node_id: node.id,
        at: now,
        kind: kind.to_owned(),
        message: names.join(", "),
    };
    tx.append_node_event(&entry).await?;
    let happening = NodeHappening {
        id: entry.id,
        at: entry.at,
        kind: entry.kind,
        message: entry.message,
    };
    let chain = Some(node.chain_profile_id.clone());
    tx.append_event_log(LiveData::NodeEvent(happening).entry(Some(node.id), chain, now));
    Ok(())
}
