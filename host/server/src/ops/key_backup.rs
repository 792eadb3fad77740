//! Copies of sealed keys: made before a key is used, made anew when it is wrapped anew, brought back into a database that lost them.

use host_domain::key::NodeKey;
use host_domain::time::Millis;

use super::keys::{KeysMoved, tell_of_keys};
use super::{OpError, Principal, audit::audit};
use crate::app::App;
use host_keys::{BackupError, KeyBackup, Keyring, SealScope};
use host_store::Db;

/// How often a key that changes meanwhile is read again.
const TRIES_MAX: u32 = 5;

impl From<BackupError> for OpError {
    fn from(error: BackupError) -> Self {
        Self::Unavailable {
            what: "the backup of nodes' keys",
            source: error.into(),
        }
    }
}

impl App {
    /// Makes a copy of a key, if copies are kept and there is none of it as it is now. Only then may the key be used.
    pub(crate) async fn back_up_key(&self, mut key: NodeKey) -> Result<(), OpError> {
        let Some(backup) = &self.key_backup else {
            return Ok(());
        };
        let id = format!("{}/{}", key.node_id, key.name);
        for _ in 0..TRIES_MAX {
            if key.backup.as_deref() == Some(backup.place()) {
                return Ok(());
            }
            backup.write(&key).await?;
            let mut tx = self.db.begin().await?;
            if tx
                .mark_node_key_backed_up(key.id, key.version, backup.place())
                .await?
            {
                return Ok(tx.commit().await?);
            }
            tx.rollback().await?;
            // It was wrapped anew or deleted meanwhile, and the copy may be an older one.
            let Some(now) = self.db.node_key(key.node_id, &key.name).await? else {
                backup.delete(key.node_id, &key.name).await?;
                return Err(OpError::not_found("key", id));
            };
            key = now;
        }
        Err(OpError::stale("key", id))
    }

    /// Deletes the copy of a key that is about to be deleted itself.
    pub(crate) async fn delete_key_backup(&self, key: &NodeKey) -> Result<(), OpError> {
        match (&self.key_backup, &key.backup) {
            (Some(backup), place) => {
                if place
                    .as_deref()
                    .is_some_and(|place| place != backup.place())
                {
                    told_of_old_place(key);
                }
                Ok(backup.delete(key.node_id, &key.name).await?)
            }
            (None, Some(_)) => {
                told_of_old_place(key);
                Ok(())
            }
            (None, None) => Ok(()),
        }
    }
}

fn told_of_old_place(key: &NodeKey) {
    tracing::warn!(node.id = %key.node_id, key = key.name, place = key.backup, "a key is deleted, and its copy lies where `keys.backup` does not point any more; delete it there");
}

/// What a restoring brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Keys that are back.
    pub restored: u64,
    /// Keys that the database had; they stay as they are.
    pub present: u64,
    /// Copies that were not used, each with why.
    pub skipped: Vec<String>,
}

/// Brings keys back into a database that has their nodes and not them. Each has to open first; nothing is ever written over.
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

/// Whether it was missing; the inner error says why the copy was not used.
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
    tell_of_keys(&mut tx, &node, KeysMoved::Restored, &names, now).await?;
    let target = format!("node_key/{}/{}", key.node_id, key.name);
    audit(&mut tx, &Principal::host(), "restore_key", target, now).await?;
    tx.commit().await?;
    Ok(Ok(true))
}
