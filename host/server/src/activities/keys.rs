//! Keys of a node: made sealed, deleted when the node never was, kept for a while when it is gone.

use host_domain::config::profile::KeySource;
use host_domain::ids::KeyId;
use host_domain::key::{KeyAlgorithm, NodeKey};
use host_domain::node::Node;
use host_workflows::node_activities::NodeRef;
use uuid::Uuid;

use super::nodes::{read, read_in};
use crate::app::App;
use crate::ops::{KeysMoved, OpError, tell_of_keys};
use host_keys::{SealScope, generate};
use host_store::Tx;

/// Makes what the profile declares and the node does not have yet.
pub(super) async fn generate_missing(app: App, node: NodeRef) -> Result<(), OpError> {
    let row = read(&app, node).await?;
    let catalogue = app.catalogue();
    let chain = catalogue.chains.chains.get(&row.chain_profile_id);
    let chain = chain.ok_or_else(|| OpError::not_found("chain", &row.chain_profile_id))?;
    let there = app.db.node_keys(row.id).await?;
    let mut sealed = Vec::new();
    // Before the transaction: what wraps may be on another machine, and nobody shall wait for it with the database's lock.
    for (name, used) in &chain.profile.keys {
        let is_ours = used.source == KeySource::Generated;
        if is_ours && !there.iter().any(|key| key.name == *name) {
            sealed.push(make(&app, &row, name, used.algorithm).await?);
        }
    }
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    let mut made = Vec::new();
    for key in sealed {
        // Another try of the same step may have been faster; its key stays.
        if tx.insert_node_key(&key).await? {
            made.push(key.name);
        }
    }
    if made.is_empty() {
        tx.rollback().await?;
    } else {
        tell_of_keys(&mut tx, &row, KeysMoved::Generated, &made, now).await?;
        tx.commit().await?;
    }
    // Also those of an earlier try that came as far as here.
    for key in app.db.node_keys(row.id).await? {
        app.back_up_key(key).await?;
    }
    Ok(())
}

async fn make(
    app: &App,
    node: &Node,
    name: &str,
    algorithm: KeyAlgorithm,
) -> Result<NodeKey, OpError> {
    let (material, public_key) = generate(algorithm)?;
    let scope = SealScope {
        node_id: node.id,
        name,
    };
    let sealed = app.keyring.seal(&scope, &material).await?;
    Ok(NodeKey {
        id: KeyId(Uuid::now_v7()),
        node_id: node.id,
        name: name.to_owned(),
        algorithm,
        public_key,
        sealed,
        created_at: app.clock.now(),
        delete_after: None,
        backup: None,
        version: 1,
    })
}

/// Deletes the node's keys at once, their copies first: a row without a copy is found again, a copy without a row is not.
pub(super) async fn delete(app: App, node: NodeRef) -> Result<(), OpError> {
    for key in app.db.node_keys(node.node_id).await? {
        app.delete_key_backup(&key).await?;
    }
    let mut tx = app.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    if tx.delete_node_keys(row.id).await? > 0 {
        tell_of_keys(&mut tx, &row, KeysMoved::Deleted, &names, app.clock.now()).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Copies the node's keys where copies are kept, also those that should be there: whoever asks wants to be sure of it.
pub(super) async fn back_up(app: App, node: NodeRef) -> Result<(), OpError> {
    if app.key_backup.is_none() {
        // It was set at the host that took the request, or before this one was started again.
        return Err(OpError::Unavailable {
            what: "the backup of nodes' keys",
            source: anyhow::anyhow!("`keys.backup.url` is not set on this host"),
        });
    }
    for key in app.db.node_keys(node.node_id).await? {
        app.back_up_key(NodeKey {
            backup: None,
            ..key
        })
        .await?;
    }
    Ok(())
}

/// From the retention's end on the cleaner deletes them.
pub(super) async fn retire(app: App, node: NodeRef) -> Result<(), OpError> {
    let now = app.clock.now();
    let mut tx = app.db.begin().await?;
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    let delete_after = now.plus(app.config.retention.keys);
    if tx.retire_node_keys(row.id, delete_after).await? > 0 {
        tell_of_keys(&mut tx, &row, KeysMoved::Retired, &names, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn names(tx: &mut Tx, node: &Node) -> Result<Vec<String>, OpError> {
    let keys = tx.node_keys(node.id).await?;
    Ok(keys.into_iter().map(|key| key.name).collect())
}

#[cfg(test)]
mod tests {
    use host_domain::ids::OperationId;
    use host_domain::node::NodeState;

    use super::*;
    use crate::test_bed::Bed;

    #[tokio::test]
    async fn a_host_that_keeps_no_copies_says_so_instead_of_making_none() {
        let bed = Bed::new().await;
        let node = NodeRef {
            node_id: bed.node(NodeState::Healthy).await.id,
            operation_id: OperationId(Uuid::now_v7()),
        };
        let outcome = back_up(bed.app.clone(), node).await;
        assert!(
            matches!(outcome, Err(OpError::Unavailable { .. })),
            "{outcome:?}"
        );
    }
}
