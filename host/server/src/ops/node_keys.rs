//! The keys of nodes: listed, imported, exported, and opened for agents.

use std::collections::BTreeMap;

use aws_lc_rs::constant_time;
use host_domain::config::profile::{KeySource, KeyUse};
use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{KeyAlgorithm, NodeKey};
use host_domain::node::{Node, NodeState};
use host_domain::time::Millis;
use uuid::Uuid;

use super::audit::audit;
use super::key_backup::Keys;
use super::keys::{KeyChange, record_key_change};
use super::records::Records;
use super::{OpError, Principal};
use crate::catalogue::Chains;
use host_gateway::KeyOpenError;
use host_keys::{KeyError, Material, SealScope, SealedExport, import, seal_to};
use host_store::retried;
use zeroize::Zeroizing;

/// A key that a node's chain declares, or that the node still has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name in the chain's profile.
    pub name: String,
    /// What it is.
    pub algorithm: KeyAlgorithm,
    /// Where it comes from; `None` when the profile declares it no more.
    pub source: Option<KeySource>,
    /// Whether it may leave the host.
    pub is_exportable: bool,
    /// What there is of it; `None` while it is missing.
    pub kept: Option<KeptKey>,
}

/// What there is of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// The public part; empty where there is none.
    pub public_key: Vec<u8>,
    /// What wraps it.
    pub wrapped_by: String,
    /// Where a copy of it as it is now lies.
    pub backup: Option<String>,
    /// When it was made or brought.
    pub created_at: Millis,
    /// From when on it is deleted: its node is gone.
    pub delete_after: Option<Millis>,
}

/// A key that leaves the host, for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedKey {
    /// Whose it is.
    pub node_id: NodeId,
    /// What it is.
    pub key: KeyInfo,
    /// What only the recipient opens.
    pub sealed: SealedExport,
}

/// Use cases on the keys of nodes.
#[derive(Clone)]
pub struct NodeKeys {
    records: Records,
    chains: Chains,
    keys: Keys,
}

impl NodeKeys {
    pub(crate) fn new(records: Records, chains: Chains, keys: Keys) -> Self {
        Self {
            records,
            chains,
            keys,
        }
    }

    /// The keys of a node by name: declared ones, and those that it has.
    pub async fn list(&self, node: &Node) -> Result<Vec<KeyInfo>, OpError> {
        let declared = self.declared_keys(node);
        let mut found: BTreeMap<String, KeyInfo> = declared
            .into_iter()
            .map(|(name, used)| (name.clone(), missing(name, &used)))
            .collect();
        for key in self.records.db.node_keys(node.id).await? {
            let info = found.remove(&key.name);
            found.insert(key.name.clone(), present(key, info));
        }
        Ok(found.into_values().collect())
    }

    /// Imports a key for a node that has none of that name. Importing the same key again changes nothing.
    pub async fn import(
        &self,
        who: &Principal,
        node: &Node,
        name: &str,
        material: &[u8],
    ) -> Result<KeyInfo, OpError> {
        let used = self.declared_key(node, name)?;
        if used.source != KeySource::User {
            return Err(OpError::Conflict(format!(
                "the host makes key `{name}` itself; only a key with `source: user` can be brought"
            )));
        }
        let (material, public_key) =
            import(used.algorithm, material).map_err(|error| unusable(error, "/material"))?;
        if let Some(kept) = self.records.db.node_key(node.id, name).await? {
            self.same_or_refused(&kept, &material).await?;
            return self.backed_up(kept, &used).await;
        }
        let scope = SealScope {
            node_id: node.id,
            name,
        };
        let key = NodeKey {
            id: KeyId(Uuid::now_v7()),
            node_id: node.id,
            name: name.to_owned(),
            algorithm: used.algorithm,
            public_key,
            sealed: self.keys.keyring.seal(&scope, &material).await?,
            created_at: self.records.now(),
            delete_after: None,
            backup: None,
            version: 1,
        };
        if !retried(|| self.keep_imported(who, node, &key)).await? {
            return Err(OpError::stale("key", name));
        }
        self.backed_up(key, &used).await
    }

    /// The key with its backup; a repeat of the request makes a backup that failed.
    async fn backed_up(&self, key: NodeKey, used: &KeyUse) -> Result<KeyInfo, OpError> {
        self.keys.back_up(&self.records.db, key.clone()).await?;
        let backup = self.keys.backup.as_ref();
        let key = NodeKey {
            backup: backup.map(|backup| backup.place().to_owned()),
            ..key
        };
        let declared = missing(key.name.clone(), used);
        Ok(present(key, Some(declared)))
    }

    async fn keep_imported(
        &self,
        who: &Principal,
        node: &Node,
        key: &NodeKey,
    ) -> Result<bool, OpError> {
        let mut tx = self.records.db.begin().await?;
        // A removal retires the keys of its node once, and would miss a key that is imported afterwards.
        tx.hold_node(node.id).await?;
        let state = tx.node(node.id).await?.map(|node| node.condition.state);
        if let Some(state) = state.filter(|it| it.is_terminal() || *it == NodeState::Terminating) {
            let state = state.as_str();
            return Err(OpError::Conflict(format!("the node is {state}")));
        }
        if !tx.insert_node_key(key).await? {
            tx.rollback().await?;
            return Ok(false);
        }
        let (names, now) = ([key.name.clone()], key.created_at);
        record_key_change(&mut tx, node, KeyChange::Imported, &names, now).await?;
        audit(&mut tx, who, "import_key", target(node, &key.name), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// A node's key never changes: what is on its disk would be another one.
    async fn same_or_refused(&self, kept: &NodeKey, material: &Material) -> Result<(), OpError> {
        let opened = self.opened(kept).await?;
        constant_time::verify_slices_are_equal(opened.expose(), material.expose()).map_err(|_| {
            OpError::Conflict(format!(
                "the node has another key `{}`, which stays: a node's key never changes",
                kept.name
            ))
        })
    }

    /// Seals a key to a public key of the caller's. The audit log and the node's history record the export first.
    pub async fn export(
        &self,
        who: &Principal,
        node: &Node,
        name: &str,
        recipient: &[u8],
    ) -> Result<ExportedKey, OpError> {
        let used = self.declared_key(node, name)?;
        if !used.exportable {
            return Err(OpError::Conflict(format!(
                "the chain does not let key `{name}` leave the host; `exportable: true` in its profile would"
            )));
        }
        let key = self.records.db.node_key(node.id, name).await?;
        let key = key.ok_or_else(|| OpError::not_found("key", name))?;
        let scope = SealScope {
            node_id: node.id,
            name,
        };
        let material = self.opened(&key).await?;
        let sealed = seal_to(recipient, &scope, &material);
        let sealed = sealed.map_err(|error| unusable(error, "/recipient"))?;
        let now = self.records.now();
        let write = || async {
            let mut tx = self.records.db.begin().await?;
            let names = [key.name.clone()];
            record_key_change(&mut tx, node, KeyChange::Exported, &names, now).await?;
            audit(&mut tx, who, "export_key", target(node, name), now).await?;
            Ok::<(), OpError>(tx.commit().await?)
        };
        retried(write).await?;
        Ok(ExportedKey {
            node_id: node.id,
            key: present(key, Some(missing(name.to_owned(), &used))),
            sealed,
        })
    }

    async fn opened(&self, key: &NodeKey) -> Result<Material, OpError> {
        let scope = SealScope {
            node_id: key.node_id,
            name: &key.name,
        };
        Ok(self.keys.keyring.open_sealed(&scope, &key.sealed).await?)
    }

    /// Opens a key for the agent of its node. The key is backed up first: a key that is used and then lost takes the node's
    /// identity with it.
    pub(crate) async fn open(&self, key: NodeKey) -> Result<Zeroizing<Vec<u8>>, KeyOpenError> {
        let backed_up = self.keys.back_up(&self.records.db, key.clone()).await;
        backed_up.map_err(|error| KeyOpenError {
            is_transient: matches!(error, OpError::Unavailable { .. } | OpError::Stale { .. }),
            source: error.into(),
        })?;
        let scope = SealScope {
            node_id: key.node_id,
            name: &key.name,
        };
        let opened = self.keys.keyring.open_sealed(&scope, &key.sealed).await;
        let material = opened.map_err(|error: KeyError| KeyOpenError {
            is_transient: error.may_heal(),
            source: error.into(),
        })?;
        Ok(material.into_bytes())
    }

    /// Whether a person has to import the key of that name.
    pub(crate) fn is_import_awaited(&self, node: &Node, name: &str) -> bool {
        let used = self.declared_key(node, name);
        used.is_ok_and(|used| used.source == KeySource::User)
    }

    fn declared_keys(&self, node: &Node) -> BTreeMap<String, KeyUse> {
        let catalogue = self.chains.catalogue();
        let chain = catalogue.chains.chains.get(&node.chain_profile_id);
        chain.map_or_else(BTreeMap::new, |chain| chain.profile.keys.clone())
    }

    fn declared_key(&self, node: &Node, name: &str) -> Result<KeyUse, OpError> {
        let found = self.declared_keys(node).remove(name);
        found.ok_or_else(|| OpError::not_found("key", name))
    }
}

fn target(node: &Node, name: &str) -> String {
    format!("node_key/{}/{name}", node.id)
}

fn unusable(error: KeyError, field: &str) -> OpError {
    match error {
        KeyError::Unusable(why) => OpError::invalid(field, format!("can't be used: {why}")),
        other => other.into(),
    }
}

fn missing(name: String, used: &KeyUse) -> KeyInfo {
    KeyInfo {
        name,
        algorithm: used.algorithm,
        source: Some(used.source),
        is_exportable: used.exportable,
        kept: None,
    }
}

fn present(key: NodeKey, declared: Option<KeyInfo>) -> KeyInfo {
    let kept = KeptKey {
        public_key: key.public_key,
        wrapped_by: key.sealed.master_key,
        backup: key.backup,
        created_at: key.created_at,
        delete_after: key.delete_after,
    };
    KeyInfo {
        name: key.name,
        algorithm: key.algorithm,
        source: declared.as_ref().and_then(|info| info.source),
        is_exportable: declared.is_some_and(|info| info.is_exportable),
        kept: Some(kept),
    }
}
