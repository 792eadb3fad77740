//! Keys whose time is over are deleted, and those that an older master key wrapped are wrapped by the newest.

use std::collections::BTreeMap;

use host_domain::ids::NodeId;
use host_domain::key::{NodeKey, SealedKey};

use crate::app::App;
use crate::ops::{KeysMoved, OpError, tell_of_keys};
use host_keys::{KeyBackup, SealScope};

/// Keys that are looked at together.
const BATCH: u32 = 500;
/// Keys that are stored together: what was wrapped anew far away shall not be lost to one failure.
const COMMIT: usize = 50;

/// One round. What one part of it can't do keeps no other from its work.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let parts = [
        delete_retired(&app).await,
        rewrap(&app).await,
        back_up(&app).await,
    ];
    parts.into_iter().collect()
}

/// A key goes after its copy: what is still there is found by the next round.
async fn delete_retired(app: &App) -> Result<(), OpError> {
    let now = app.clock.now();
    loop {
        let retired = app.db.retired_node_keys(now, BATCH).await?;
        if retired.is_empty() {
            return Ok(());
        }
        let mut names: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        let mut deleted = Vec::new();
        for key in retired {
            app.delete_key_backup(&key).await?;
            deleted.push(key.id);
            names.entry(key.node_id).or_default().push(key.name);
        }
        let mut tx = app.db.begin().await?;
        for id in deleted {
            tx.delete_node_key(id).await?;
        }
        for (id, names) in names {
            let node = tx.node(id).await?;
            let node = node.ok_or_else(|| OpError::not_found("node", id))?;
            tell_of_keys(&mut tx, &node, KeysMoved::Deleted, &names, now).await?;
        }
        tx.commit().await?;
    }
}

/// Keys of before there was a backup, or of when it was another one.
async fn back_up(app: &App) -> Result<(), OpError> {
    let Some(backup) = &app.key_backup else {
        return Ok(());
    };
    let (mut after, mut n_copied) = (None, 0_u64);
    loop {
        let keys = app
            .db
            .node_keys_not_backed_up(backup.place(), after, BATCH)
            .await?;
        let Some(last) = keys.last() else {
            break;
        };
        after = Some(last.id);
        for key in keys {
            match app.back_up_key(key).await {
                // It was deleted meanwhile.
                Err(OpError::NotFound { .. }) => {}
                done => {
                    done?;
                    n_copied += 1;
                }
            }
        }
    }
    if n_copied > 0 {
        tracing::info!(n_copied, to = backup.place(), "keys of nodes were copied");
    }
    Ok(())
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

/// Copies and stores new wrappings, in this order: a copy may be newer than its row, and is never older. Says how many
/// counted: who lost to somebody else is read again in the next round.
async fn keep(app: &App, wrapped: Vec<(NodeKey, SealedKey)>) -> Result<usize, OpError> {
    if wrapped.is_empty() {
        return Ok(0);
    }
    let place = app.key_backup.as_ref().map(KeyBackup::place);
    if let Some(backup) = &app.key_backup {
        for (key, sealed) in &wrapped {
            let anew = NodeKey {
                sealed: sealed.clone(),
                ..key.clone()
            };
            backup.write(&anew).await?;
        }
    }
    let mut tx = app.db.begin().await?;
    let mut n_kept = 0;
    for (key, sealed) in &wrapped {
        if tx
            .rewrap_node_key(key.id, key.version, sealed, place)
            .await?
        {
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
    use std::path::Path;

    use host_domain::ids::KeyId;
    use host_domain::key::KeyAlgorithm;
    use host_domain::node::NodeState;
    use host_domain::time::Millis;
    use url::Url;
    use uuid::Uuid;

    use super::*;
    use crate::test_bed::{Bed, OLD_MASTER_KEY, keyring};
    use host_keys::BackupConfig;
    use host_keys::{Material, generate};

    /// A key that the older master key wrapped.
    async fn sealed_before(
        node_id: NodeId,
        name: &str,
        delete_after: Option<Millis>,
        material: &Material,
    ) -> NodeKey {
        let scope = SealScope { node_id, name };
        let sealed = keyring(&[OLD_MASTER_KEY]).seal(&scope, material).await;
        NodeKey {
            id: KeyId(Uuid::now_v7()),
            node_id,
            name: name.to_owned(),
            algorithm: KeyAlgorithm::Ed25519,
            public_key: Vec::new(),
            sealed: sealed.unwrap(),
            created_at: Millis(0),
            delete_after,
            backup: None,
            version: 1,
        }
    }

    #[tokio::test]
    async fn old_wrappings_are_renewed_and_retired_keys_deleted() {
        let bed = Bed::new().await;
        let (app, node) = (&bed.app, bed.node(NodeState::Healthy).await);
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let now = app.clock.now();
        let mut tx = app.db.begin().await.unwrap();
        for (name, delete_after) in [("kept", None), ("retired", Some(now))] {
            let key = sealed_before(node.id, name, delete_after, &material).await;
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

    async fn bed_with_copies_in(folder: &Path) -> Bed {
        let config = BackupConfig::at(Url::from_directory_path(folder).unwrap());
        Bed::with_backup(Some(KeyBackup::open(&config).unwrap())).await
    }

    async fn insert(app: &App, key: &NodeKey) {
        let mut tx = app.db.begin().await.unwrap();
        assert!(tx.insert_node_key(key).await.unwrap());
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn keys_are_copied_copied_anew_and_deleted_with_their_copies() {
        let folder = tempfile::tempdir().unwrap();
        let bed = bed_with_copies_in(&folder.path().join("copies")).await;
        let (app, node) = (&bed.app, bed.node(NodeState::Healthy).await);
        let backup = app.key_backup.as_ref().unwrap();
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let old = sealed_before(node.id, "p2p", None, &material).await;
        insert(app, &old).await;
        app.back_up_key(old.clone()).await.unwrap();
        let copies = backup.all().await.unwrap();
        assert_eq!(copies[0].1.as_ref().unwrap().sealed, old.sealed);

        round(app.clone()).await.unwrap();
        let row = app.db.node_keys(node.id).await.unwrap().remove(0);
        assert_eq!(row.sealed.master_key, app.keyring.newest().await.unwrap());
        assert_eq!(row.backup.as_deref(), Some(backup.place()));
        let copies = backup.all().await.unwrap();
        assert_eq!(copies[0].1.as_ref().unwrap().sealed, row.sealed);
        // A key from before there was a backup.
        let late = sealed_before(node.id, "late", None, &material).await;
        insert(app, &late).await;
        round(app.clone()).await.unwrap();
        assert_eq!(backup.all().await.unwrap().len(), 2);
        assert!(!bed.commits(round(app.clone())).await, "all is done");

        let mut tx = app.db.begin().await.unwrap();
        let now = app.clock.now();
        assert_eq!(tx.retire_node_keys(node.id, now).await.unwrap(), 2);
        tx.commit().await.unwrap();
        round(app.clone()).await.unwrap();
        assert_eq!(backup.all().await.unwrap().len(), 0);
        assert_eq!(app.db.node_keys(node.id).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_key_waits_for_its_copy_while_the_backup_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copies");
        let bed = bed_with_copies_in(&path).await;
        let (app, node) = (&bed.app, bed.node(NodeState::Healthy).await);
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let key = sealed_before(node.id, "p2p", None, &material).await;
        insert(app, &key).await;
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "in the way").unwrap();
        let away = app.back_up_key(key.clone()).await.unwrap_err();
        assert!(matches!(away, OpError::Unavailable { .. }), "{away:?}");
        assert!(round(app.clone()).await.is_err());
        let row = app.db.node_keys(node.id).await.unwrap().remove(0);
        assert_eq!(row, key, "its wrapping is the one that can still be copied");

        std::fs::remove_file(&path).unwrap();
        app.back_up_key(key).await.unwrap();
        round(app.clone()).await.unwrap();
        let row = app.db.node_keys(node.id).await.unwrap().remove(0);
        assert!(row.backup.is_some());
    }
}
