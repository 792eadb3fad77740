//! Deletes keys after their retention time, and wraps keys of an older master key with the newest.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::key::{NodeKey, SealedKey};

use super::loops::{Loop, Pace};
use crate::ops::{KeyChange, Keys, OpError, Records, record_key_change};
use crate::services::Services;
use host_keys::SealScope;
use host_store::Role;

/// Keys that are read at once.
const BATCH: u32 = 500;
/// Keys that are stored together: what was wrapped anew far away shall not be lost to one failure.
const COMMIT: usize = 50;

/// Deletes, rewraps and backs up keys, on the leader.
pub(super) fn key_cleaner(services: &Services) -> Loop {
    let keys = services.keys.clone();
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::leader("keys", pace, move |records| {
        let keys = keys.clone();
        async move { round(&records, &keys).await }
    })
}

/// Renews the login at the vault, on every host: each has a login of its own, which expires when it is not used.
pub(super) fn keep_vault_login(services: &Services) -> Loop {
    let keyring = Arc::clone(&services.keys.keyring);
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::everyone("keyring", Role::Api, pace, move |_| {
        let keyring = Arc::clone(&keyring);
        async move { keyring.keep_alive().await }
    })
}

/// One round. A part that fails does not prevent the others.
async fn round(records: &Records, keys: &Keys) -> Result<(), OpError> {
    let parts = [
        delete_retired(records, keys).await,
        rewrap(records, keys).await,
        back_up(records, keys).await,
    ];
    parts.into_iter().collect()
}

/// Deletes a key after its backup: the next round finds a key that is left.
async fn delete_retired(records: &Records, keys: &Keys) -> Result<(), OpError> {
    let now = records.now();
    loop {
        let retired = records.db.retired_node_keys(now, BATCH).await?;
        if retired.is_empty() {
            return Ok(());
        }
        let mut names: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
        let mut deleted = Vec::new();
        for key in retired {
            keys.delete_backup(&key).await?;
            deleted.push(key.id);
            names.entry(key.node_id).or_default().push(key.name);
        }
        let mut tx = records.db.begin().await?;
        for id in deleted {
            tx.delete_node_key(id).await?;
        }
        for (id, names) in names {
            let node = tx.node(id).await?;
            let node = node.ok_or_else(|| OpError::not_found("node", id))?;
            record_key_change(&mut tx, &node, KeyChange::Deleted, &names, now).await?;
        }
        tx.commit().await?;
    }
}

/// Backs up keys that have no backup in the current place.
async fn back_up(records: &Records, keys: &Keys) -> Result<(), OpError> {
    let Some(backup) = &keys.backup else {
        return Ok(());
    };
    let (mut after, mut n_copied) = (None, 0_u64);
    loop {
        let found = records
            .db
            .node_keys_not_backed_up(backup.place(), after, BATCH)
            .await?;
        let Some(last) = found.last() else {
            break;
        };
        after = Some(last.id);
        for key in found {
            match keys.back_up(&records.db, key).await {
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

/// Wraps keys with the newest master key. A key that can't be wrapped keeps its old wrapping, with an error in the log.
async fn rewrap(records: &Records, keys: &Keys) -> Result<(), OpError> {
    let newest = keys.keyring.newest().await?;
    let (mut after, mut n_wrapped) = (None, 0_usize);
    loop {
        let found = records
            .db
            .node_keys_not_wrapped_by(&newest, after, BATCH)
            .await?;
        let Some(last) = found.last() else {
            break;
        };
        after = Some(last.id);
        let mut wrapped = Vec::new();
        for key in found {
            let scope = SealScope {
                node_id: key.node_id,
                name: &key.name,
            };
            match keys.keyring.rewrap(&scope, &key.sealed).await {
                Ok(sealed) => wrapped.push((key, sealed)),
                // The next round begins where this one ends.
                Err(error) if error.may_heal() => return Err(error.into()),
                Err(error) => {
                    tracing::error!(node.id = %key.node_id, key = key.name, %error, "a key keeps its old wrapping");
                }
            }
            if wrapped.len() == COMMIT {
                n_wrapped += store(records, keys, std::mem::take(&mut wrapped)).await?;
            }
        }
        n_wrapped += store(records, keys, wrapped).await?;
    }
    if n_wrapped > 0 {
        tracing::info!(n_wrapped, by = newest, "keys of nodes were wrapped anew");
    }
    Ok(())
}

/// Copies and stores new wrappings, in this order: a copy may be newer than its row, and is never older. Says how many
/// counted: who lost to somebody else is read again in the next round.
async fn store(
    records: &Records,
    keys: &Keys,
    wrapped: Vec<(NodeKey, SealedKey)>,
) -> Result<usize, OpError> {
    if wrapped.is_empty() {
        return Ok(0);
    }
    let place = keys.backup.as_ref().map(|backup| backup.place());
    if let Some(backup) = &keys.backup {
        for (key, sealed) in &wrapped {
            let anew = NodeKey {
                sealed: sealed.clone(),
                ..key.clone()
            };
            backup.write(&anew).await?;
        }
    }
    let mut tx = records.db.begin().await?;
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
    use host_keys::{BackupConfig, KeyBackup};
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
        let (records, keys, node) = (
            &bed.records,
            &bed.services.keys,
            bed.node(NodeState::Healthy).await,
        );
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let now = records.now();
        let mut tx = records.db.begin().await.unwrap();
        for (name, delete_after) in [("kept", None), ("retired", Some(now))] {
            let key = sealed_before(node.id, name, delete_after, &material).await;
            assert!(tx.insert_node_key(&key).await.unwrap());
        }
        tx.commit().await.unwrap();
        for _ in 0..2 {
            round(&bed.records, &bed.services.keys).await.unwrap();
            let found = records.db.node_keys(node.id).await.unwrap();
            assert_eq!(found.len(), 1, "a second round changes nothing");
            assert_eq!((found[0].name.as_str(), found[0].version), ("kept", 2));
            let newest = keys.keyring.newest().await.unwrap();
            assert_eq!(found[0].sealed.master_key, newest);
            let scope = SealScope {
                node_id: node.id,
                name: "kept",
            };
            let opened = keys
                .keyring
                .open_sealed(&scope, &found[0].sealed)
                .await
                .unwrap();
            assert_eq!(opened.expose(), material.expose());
        }
        let events = records.db.node_events(node.id, None, 9).await.unwrap();
        let told = events.iter().map(|event| (&*event.kind, &*event.message));
        assert_eq!(told.collect::<Vec<_>>(), [("keys_deleted", "retired")]);
    }

    async fn bed_with_copies_in(folder: &Path) -> Bed {
        let config = BackupConfig::at(Url::from_directory_path(folder).unwrap());
        Bed::with_backup(Some(KeyBackup::open(&config).unwrap())).await
    }

    async fn insert(records: &Records, key: &NodeKey) {
        let mut tx = records.db.begin().await.unwrap();
        assert!(tx.insert_node_key(key).await.unwrap());
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn keys_are_copied_copied_anew_and_deleted_with_their_copies() {
        let folder = tempfile::tempdir().unwrap();
        let bed = bed_with_copies_in(&folder.path().join("copies")).await;
        let (records, keys, node) = (
            &bed.records,
            &bed.services.keys,
            bed.node(NodeState::Healthy).await,
        );
        let backup = keys.backup.as_ref().unwrap();
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let old = sealed_before(node.id, "p2p", None, &material).await;
        insert(records, &old).await;
        keys.back_up(&records.db, old.clone()).await.unwrap();
        let copies = backup.all().await.unwrap();
        assert_eq!(copies[0].1.as_ref().unwrap().sealed, old.sealed);

        round(&bed.records, &bed.services.keys).await.unwrap();
        let row = records.db.node_keys(node.id).await.unwrap().remove(0);
        assert_eq!(row.sealed.master_key, keys.keyring.newest().await.unwrap());
        assert_eq!(row.backup.as_deref(), Some(backup.place()));
        let copies = backup.all().await.unwrap();
        assert_eq!(copies[0].1.as_ref().unwrap().sealed, row.sealed);
        // A key from before there was a backup.
        let late = sealed_before(node.id, "late", None, &material).await;
        insert(records, &late).await;
        round(&bed.records, &bed.services.keys).await.unwrap();
        assert_eq!(backup.all().await.unwrap().len(), 2);
        assert!(
            !bed.commits(round(&bed.records, &bed.services.keys)).await,
            "all is done"
        );

        let mut tx = records.db.begin().await.unwrap();
        let now = records.now();
        assert_eq!(tx.retire_node_keys(node.id, now).await.unwrap(), 2);
        tx.commit().await.unwrap();
        round(&bed.records, &bed.services.keys).await.unwrap();
        assert_eq!(backup.all().await.unwrap().len(), 0);
        assert_eq!(records.db.node_keys(node.id).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_key_waits_for_its_copy_while_the_backup_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copies");
        let bed = bed_with_copies_in(&path).await;
        let (records, keys, node) = (
            &bed.records,
            &bed.services.keys,
            bed.node(NodeState::Healthy).await,
        );
        let (material, _) = generate(KeyAlgorithm::Ed25519).unwrap();
        let key = sealed_before(node.id, "p2p", None, &material).await;
        insert(records, &key).await;
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "in the way").unwrap();
        let away = keys.back_up(&records.db, key.clone()).await.unwrap_err();
        assert!(matches!(away, OpError::Unavailable { .. }), "{away:?}");
        assert!(round(&bed.records, &bed.services.keys).await.is_err());
        let row = records.db.node_keys(node.id).await.unwrap().remove(0);
        assert_eq!(row, key, "its wrapping is the one that can still be copied");

        std::fs::remove_file(&path).unwrap();
        keys.back_up(&records.db, key).await.unwrap();
        round(&bed.records, &bed.services.keys).await.unwrap();
        let row = records.db.node_keys(node.id).await.unwrap().remove(0);
        assert!(row.backup.is_some());
    }
}
