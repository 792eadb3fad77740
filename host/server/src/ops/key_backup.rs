//! Backups of sealed keys: made before a key is used, renewed when a key is wrapped again, restored into a database that lost keys.

use std::sync::Arc;

use host_domain::key::NodeKey;
use host_domain::time::Millis;

use super::keys::{KeyChange, record_key_change};
use super::{OpError, Principal, audit::audit};
use host_keys::{BackupError, KeyBackup, Keyring, SealScope};
use host_store::Db;

/// How often a key that changes concurrently is read again.
const TRIES_MAX: u32 = 5;

impl From<BackupError> for OpError {
    fn from(error: BackupError) -> Self {
        Self::Unavailable {
            what: "the backup of nodes' keys",
            source: error.into(),
        }
    }
}

/// Seals, opens and backs up the keys of nodes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) backup: Option<Arc<KeyBackup>>,
}

impl Keys {
    /// Backs up a key, if backups are configured and the current version of the key has none. Only then may the key be used.
    pub(crate) async fn back_up(&self, db: &Db, mut key: NodeKey) -> Result<(), OpError> {
        let Some(backup) = &self.backup else {
            return Ok(());
        };
        let id = format!("{}/{}", key.node_id, key.name);
        for _ in 0..TRIES_MAX {
            if key.backup.as_deref() == Some(backup.place()) {
                return Ok(());
            }
            backup.write(&key).await?;
            let mut tx = db.begin().await?;
            if tx
                .mark_node_key_backed_up(key.id, key.version, backup.place())
                .await?
            {
                return Ok(tx.commit().await?);
            }
            tx.rollback().await?;
            // It was wrapped again or deleted concurrently, and the backup may be older.
            let Some(now) = db.node_key(key.node_id, &key.name).await? else {
                backup.delete(key.node_id, &key.name).await?;
                return Err(OpError::not_found("key", id));
            };
            key = now;
        }
        Err(OpError::stale("key", id))
    }

    /// Deletes the backup of a key that is about to be deleted.
    pub(crate) async fn delete_backup(&self, key: &NodeKey) -> Result<(), OpError> {
        match (&self.backup, &key.backup) {
            (Some(backup), place) => {
                if place
                    .as_deref()
                    .is_some_and(|place| place != backup.place())
                {
                    warn_of_old_place(key);
                }
                Ok(backup.delete(key.node_id, &key.name).await?)
            }
            (None, Some(_)) => {
                warn_of_old_place(key);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}

fn warn_of_old_place(key: &NodeKey) {
    tracing::warn!(node.id = %key.node_id, key = key.name, place = key.backup, "the host deletes a key whose backup is in a place that `keys.backup` does not name any more; delete the backup there");
}

/// The result of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Keys that were restored.
    pub restored: u64,
    /// Keys that the database had; they are unchanged.
    pub present: u64,
    /// Backups that were not used, each with the reason.
    pub skipped: Vec<String>,
}

/// Restores keys into a database that has their nodes but not the keys. Each key has to open first; nothing is overwritten.
pub async fn restore_keys(
    db: &Db,
    keyring: &Keyring,
    backup: &KeyBackup,
    now: Millis,
) -> Result<Restored, OpError> {
    let mut outcome = Restored::default();
    for (path, copy) in backup.all().await? {
        let restored = match copy {
            Ok(key) => restore_key(db, keyring, backup, key, now).await?,
            Err(error) => Err(error.to_string()),
        };
        match restored {
            Ok(true) => outcome.restored += 1,
            Ok(false) => outcome.present += 1,
            Err(why) => outcome.skipped.push(format!("{path}: {why}")),
        }
    }
    Ok(outcome)
}

/// Returns whether the key was missing; the inner error is why the backup was not used.
async fn restore_key(
    db: &Db,
    keyring: &Keyring,
    backup: &KeyBackup,
    key: NodeKey,
    now: Millis,
) -> Result<Result<bool, String>, OpError> {
    let node = match db.node(key.node_id).await? {
        None => return Ok(Err("its node is not in the database".to_owned())),
        Some(node) if node.condition.state.is_terminal() => {
            return Ok(Err(format!(
                "its node is {}",
                node.condition.state.as_str()
            )));
        }
        Some(node) => node,
    };
    let scope = SealScope {
        node_id: key.node_id,
        name: &key.name,
    };
    match keyring.open_sealed(&scope, &key.sealed).await {
        Ok(material) => drop(material),
        Err(error) if error.may_heal() => return Err(error.into()),
        Err(error) => return Ok(Err(error.to_string())),
    }
    let key = NodeKey {
        backup: Some(backup.place().to_owned()),
        ..key
    };
    let mut tx = db.begin().await?;
    if !tx.insert_node_key(&key).await? {
        tx.rollback().await?;
        return Ok(Ok(false));
    }
    let names = [key.name.clone()];
    record_key_change(&mut tx, &node, KeyChange::Restored, &names, now).await?;
    let target = format!("node_key/{}/{}", key.node_id, key.name);
    audit(&mut tx, &Principal::host(), "restore_key", target, now).await?;
    tx.commit().await?;
    Ok(Ok(true))
}
