//! Keys whose time is over are deleted, and those that an older master key wrapped are wrapped by the newest.

use std::collections::BTreeMap;

use host_domain::ids::NodeId;
use host_domain::key::{NodeKey, SealedKey};

use crate::app::App;
use crate::keys::SealScope;
use crate::ops::{KeysMoved, OpError, tell_of_keys};

/// Keys that are looked at together.
const BATCH: u32 = 500;
/// Keys that are stored together: what was wrapped anew far away shall not be lost to one failure.
const COMMIT: usize = 50;

/// One round.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    delete_retired(&app).await?;
    rewrap(&app).await
}

async fn delete_retired(app: &App) -> Result<(), OpError> {
    let now = app.clock.now();
    loop {
        let mut tx = app.db.begin().await?;
        let deleted = tx.delete_retired_node_keys(now, BATCH).await?;
        if deleted.is_empty() {
            return Ok(());
        }
        let mut names: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        for key in deleted {
            names.entry(key.node_id).or_default().push(key.name);
        }
        for (id, names) in names {
            let node = tx.node(id).await?;
            let node = node.ok_or_else(|| OpError::not_found("node", id))?;
            tell_of_keys(&mut tx, &node, KeysMoved::Deleted, &names, now).await?;
        }
        tx.commit().await?;
    }
}

/// A key that can't be wrapped anew keeps its old wrapping and is told of; the rest goes on.
async fn rewrap(app: &App) -> Result<(), OpError> {
    let newest = app.keyring.newest().await?;
    let (mut after, mut n_wrapped) = (None, 0_usize);
    loop {
        let keys = app
            .db
            .node_keys_not_wrapped_by(&newest, after, BATCH)
            .await?;
        let Some(last) = keys.last() else {
            break;
        };
        after = Some(last.id);
        let mut wrapped = Vec::new();
        for key in keys {
            let scope = SealScope {
                node_id: key.node_id,
                name: &key.name,
            };
            match app.keyring.rewrap(&scope, &key.sealed).await {
                Ok(sealed) => wrapped.push((key, sealed)),
                // The next round begins where this one ends.
                Err(error) if error.may_heal() => return Err(error.into()),
                Err(error) => {
                    tracing::error!(node.id = %key.node_id, key = key.name, %error, "a key keeps its old wrapping");
                }
            }
            if wrapped.len() == COMMIT {
                n_wrapped += keep(app, std::mem::take(&mut wrapped)).await?;
            }
        }
        n_wrapped += keep(app, wrapped).await?;
    }
    if n_wrapped > 0 {
        tracing::info!(n_wrapped, by = newest, "keys of nodes were wrapped anew");
    }
    Ok(())
}

/// Stores new wrappings, and says how many counted: who lost to somebody else is read again in the next round.
async fn keep(app: &App, wrapped: Vec<(NodeKey, SealedKey)>) -> Result<usize, OpError> {
    if wrapped.is_empty() {
        return Ok(0);
    }
    let mut tx = app.db.begin().await?;
    let mut n_kept = 0;
    for (key, sealed) in &wrapped {
        if tx.rewrap_node_key(key.id, key.version, sealed).await? {
            n_kept += 1;
        }
    }
    if n_kept > 0 {
        tx.commit().await?;
    }
    Ok(n_kept)
}

#[cfg(test)]
mod tests {
    use host_domain::ids::KeyId;
    use host_domain::key::KeyAlgorithm;
    use host_domain::node::NodeState;
    use host_domain::time::Millis;
    use uuid::Uuid;

    use super::*;
    use crate::keys::generate;
    use crate::test_bed::{Bed, OLD_MASTER_KEY, keyring};

    #[tokio::test]
    async fn old_wrappings_are_renewed_and_retired_keys_deleted() {
        let bed = Bed::new().await;
        let (app, node) = (&bed.app, bed.node(NodeState::Healthy).await);
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let now = app.clock.now();
        let mut tx = app.db.begin().await.unwrap();
        for (name, delete_after) in [("kept", None), ("retired", Some(now))] {
            let scope = SealScope {
                node_id: node.id,
                name,
            };
            let key = NodeKey {
                id: KeyId(Uuid::now_v7()),
                node_id: node.id,
                name: name.to_owned(),
                algorithm: KeyAlgorithm::Ed25519,
                public_key: Vec::new(),
                sealed: keyring(&[OLD_MASTER_KEY])
                    .seal(&scope, &material)
                    .await
                    .unwrap(),
                created_at: Millis(0),
                delete_after,
                version: 1,
            };
            assert!(tx.insert_node_key(&key).await.unwrap());
        }
        tx.commit().await.unwrap();
        for _ in 0..2 {
            round(app.clone()).await.unwrap();
            let keys = app.db.node_keys(node.id).await.unwrap();
            assert_eq!(keys.len(), 1, "a second round changes nothing");
            assert_eq!((keys[0].name.as_str(), keys[0].version), ("kept", 2));
            let newest = app.keyring.newest().await.unwrap();
            assert_eq!(keys[0].sealed.master_key, newest);
            let scope = SealScope {
                node_id: node.id,
                name: "kept",
            };
            let opened = app
                .keyring
                .open_sealed(&scope, &keys[0].sealed)
                .await
                .unwrap();
            assert_eq!(opened.expose(), material.expose());
        }
        let events = app.db.node_events(node.id, None, 9).await.unwrap();
        let told = events.iter().map(|event| (&*event.kind, &*event.message));
        assert_eq!(told.collect::<Vec<_>>(), [("keys_deleted", "retired")]);
    }
}
