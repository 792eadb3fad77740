//! Keys of a node: made sealed, deleted when the node never was, kept for a while when it is gone.

use std::time::Duration;

use host_domain::config::profile::KeySource;
use host_domain::ids::KeyId;
use host_domain::key::{KeyAlgorithm, NodeKey};
use host_domain::node::Node;
use host_workflows::Activities;
use host_workflows::node_activities::{BackUpKeys, DeleteKeys, GenerateKeys, NodeRef, RetireKeys};
use uuid::Uuid;

use super::nodes::{read, read_in};
use super::on;
use crate::ops::{Chains, KeyChange, Keys, OpError, Records, record_key_change};
use crate::services::Services;
use host_keys::{SealScope, generate};
use host_store::Tx;

/// What activities on keys work with.
#[derive(Clone)]
struct KeyWork {
    records: Records,
    chains: Chains,
    keys: Keys,
    /// How long the host keeps the keys of a terminated node.
    retention: Duration,
}

impl KeyWork {
    fn of(services: &Services, records: &Records) -> Self {
        Self {
            records: records.clone(),
            chains: services.chains.clone(),
            keys: services.keys.clone(),
            retention: services.config.retention.keys,
        }
    }
}

pub(super) fn register(activities: &mut Activities, services: &Services, records: &Records) {
    let work = KeyWork::of(services, records);
    on(activities, &work, GenerateKeys, generate_missing);
    on(activities, &work, DeleteKeys, delete);
    on(activities, &work, BackUpKeys, back_up);
    on(activities, &work, RetireKeys, retire);
}

/// Generates the keys that the profile declares and the node lacks.
async fn generate_missing(work: KeyWork, node: NodeRef) -> Result<(), OpError> {
    let row = read(&work.records, node).await?;
    let catalogue = work.chains.catalogue();
    let chain = catalogue.chains.chains.get(&row.chain_profile_id);
    let chain = chain.ok_or_else(|| OpError::not_found("chain", &row.chain_profile_id))?;
    let there = work.records.db.node_keys(row.id).await?;
    let mut sealed = Vec::new();
    // Before the transaction: what wraps may be on another machine, and nobody shall wait for it with the database's lock.
    for (name, used) in &chain.profile.keys {
        let is_ours = used.source == KeySource::Generated;
        if is_ours && !there.iter().any(|key| key.name == *name) {
            sealed.push(generate_key(&work, &row, name, used.algorithm).await?);
        }
    }
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
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
        record_key_change(&mut tx, &row, KeyChange::Generated, &made, now).await?;
        tx.commit().await?;
    }
    // Also those of an earlier try that came as far as here.
    for key in work.records.db.node_keys(row.id).await? {
        work.keys.back_up(&work.records.db, key).await?;
    }
    Ok(())
}

async fn generate_key(
    work: &KeyWork,
    node: &Node,
    name: &str,
    algorithm: KeyAlgorithm,
) -> Result<NodeKey, OpError> {
    let (material, public_key) = generate(algorithm)?;
    let scope = SealScope {
        node_id: node.id,
        name,
    };
    let sealed = work.keys.keyring.seal(&scope, &material).await?;
    Ok(NodeKey {
        id: KeyId(Uuid::now_v7()),
        node_id: node.id,
        name: name.to_owned(),
        algorithm,
        public_key,
        sealed,
        created_at: work.records.now(),
        delete_after: None,
        backup: None,
        version: 1,
    })
}

/// Deletes the node's keys at once, their copies first: a row without a copy is found again, a copy without a row is not.
async fn delete(work: KeyWork, node: NodeRef) -> Result<(), OpError> {
    for key in work.records.db.node_keys(node.node_id).await? {
        work.keys.delete_backup(&key).await?;
    }
    let mut tx = work.records.db.begin().await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    if tx.delete_node_keys(row.id).await? > 0 {
        record_key_change(
            &mut tx,
            &row,
            KeyChange::Deleted,
            &names,
            work.records.now(),
        )
        .await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Copies the node's keys where copies are kept, also those that should be there: whoever asks wants to be sure of it.
async fn back_up(work: KeyWork, node: NodeRef) -> Result<(), OpError> {
    if work.keys.backup.is_none() {
        // It was set at the host that took the request, or before this one was started again.
        return Err(OpError::Unavailable {
            what: "the backup of nodes' keys",
            source: anyhow::anyhow!("`keys.backup.url` is not set on this host"),
        });
    }
    for key in work.records.db.node_keys(node.node_id).await? {
        work.keys
            .back_up(
                &work.records.db,
                NodeKey {
                    backup: None,
                    ..key
                },
            )
            .await?;
    }
    Ok(())
}

/// From the retention's end on the cleaner deletes them.
async fn retire(work: KeyWork, node: NodeRef) -> Result<(), OpError> {
    let now = work.records.now();
    let mut tx = work.records.db.begin().await?;
    tx.hold_node(node.node_id).await?;
    let row = read_in(&mut tx, node).await?;
    let names = names(&mut tx, &row).await?;
    let delete_after = now.plus(work.retention);
    if tx.retire_node_keys(row.id, delete_after).await? > 0 {
        record_key_change(&mut tx, &row, KeyChange::Retired, &names, now).await?;
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
        let outcome = back_up(KeyWork::of(&bed.services, &bed.records), node).await;
        assert!(
            matches!(outcome, Err(OpError::Unavailable { .. })),
            "{outcome:?}"
        );
    }
}
