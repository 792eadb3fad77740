//! The nodes that an agent may speak for: only those that are placed on its own machine.

use std::collections::HashMap;
use std::time::Duration;

use host_domain::ids::{MachineId, NodeId};
use host_domain::migration::view_of;
use host_domain::time::Millis;

use crate::metrics;
use crate::store::{NodeStore, StoreResult};

/// The nodes of one machine, as one session has read them.
pub(crate) struct Scope {
    machine_id: MachineId,
    nodes: HashMap<NodeId, OwnNode>,
    read_since: Millis,
    /// The session notices after this time at the latest that a node was placed elsewhere.
    valid_for: Duration,
}

/// A node of the machine.
struct OwnNode {
    chain: String,
    holds_keys: bool,
}

impl Scope {
    /// The session prolongs leases by what the scope has read, so the scope reads again after a part of the lease.
    pub(crate) fn new(machine_id: MachineId, now: Millis, lease: Duration) -> Self {
        Self {
            machine_id,
            nodes: HashMap::new(),
            read_since: now,
            valid_for: view_of(lease),
        }
    }

    /// The node's id if the agent may speak for it. Refusals are counted.
    pub(crate) async fn own(
        &mut self,
        store: &(impl NodeStore + ?Sized),
        node_id: &str,
        now: Millis,
    ) -> StoreResult<Option<NodeId>> {
        let Ok(id) = node_id.parse::<NodeId>() else {
            return Ok(self.refuse(node_id));
        };
        if now.since(self.read_since) >= self.valid_for {
            self.nodes.clear();
            self.read_since = now;
        }
        if self.nodes.contains_key(&id) {
            return Ok(Some(id));
        }
        let node = store.node(id).await?;
        match node.filter(|node| node.placement.machine_id == Some(self.machine_id)) {
            Some(node) => {
                let keys = store.node_keys(id).await?;
                let own = OwnNode {
                    chain: node.chain_profile_id,
                    holds_keys: keys.iter().any(|key| key.delete_after.is_none()),
                };
                self.nodes.insert(id, own);
                Ok(Some(id))
            }
            None => Ok(self.refuse(node_id)),
        }
    }

    /// The chain of a node that [`Scope::own`] returned.
    pub(crate) fn chain_of(&self, id: NodeId) -> Option<&str> {
        self.nodes.get(&id).map(|own| own.chain.as_str())
    }

    /// Whether a node that [`Scope::own`] returned holds keys.
    pub(crate) fn holds_keys(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|own| own.holds_keys)
    }

    fn refuse(&self, node_id: &str) -> Option<NodeId> {
        metrics::refused("foreign_node", 1);
        let shown: String = node_id.chars().take(64).collect();
        tracing::warn!(machine.id = %self.machine_id, node.id = %shown, "refused a report for a node that is not on the agent's machine");
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use host_domain::ids::{KeyId, SubscriptionId};
    use host_domain::key::{KeyAlgorithm, NodeKey, SealedKey};
    use host_domain::node::{Condition, Node, Placement};
    use uuid::Uuid;

    use super::*;
    use crate::test_store::TestStore;

    const LEASE: Duration = Duration::from_secs(20);
    const NOW: Millis = Millis(1_900_000_000_000);

    fn machine(number: u128) -> MachineId {
        MachineId(Uuid::from_u128(number))
    }

    fn node(number: u128, machine_id: MachineId) -> Node {
        Node {
            id: NodeId(Uuid::from_u128(number)),
            subscription_id: SubscriptionId(Uuid::nil()),
            name: number.to_string(),
            chain_profile_id: "chain-a".to_owned(),
            node_type: "full".to_owned(),
            condition: Condition::NEW,
            reasons: Vec::new(),
            placement: Placement {
                machine_id: Some(machine_id),
                ..Placement::default()
            },
            ports: BTreeMap::new(),
            binary_versions: BTreeMap::new(),
            inputs: BTreeMap::new(),
            operation_id: None,
            state_version: 1,
            created_at: NOW,
            updated_at: NOW,
        }
    }

    fn key(node_id: NodeId, delete_after: Option<Millis>) -> NodeKey {
        NodeKey {
            id: KeyId(Uuid::nil()),
            node_id,
            name: "p2p".to_owned(),
            algorithm: KeyAlgorithm::Bytes32,
            public_key: Vec::new(),
            sealed: SealedKey {
                master_key: String::new(),
                data_key: Vec::new(),
                material: Vec::new(),
            },
            created_at: NOW,
            delete_after,
            backup: None,
            version: 1,
        }
    }

    #[tokio::test]
    async fn only_nodes_of_the_own_machine_are_in_scope() {
        let store = TestStore::default();
        let (own, foreign) = (node(1, machine(1)), node(2, machine(2)));
        store.put_node(own.clone());
        store.put_node(foreign.clone());
        let mut scope = Scope::new(machine(1), NOW, LEASE);
        let unknown = Uuid::from_u128(3).to_string();
        for (id, expected) in [
            (own.id.to_string(), Some(own.id)),
            (foreign.id.to_string(), None),
            (unknown, None),
            ("not an id".to_owned(), None),
        ] {
            let found = scope.own(&store, &id, NOW).await.unwrap();
            assert_eq!(found, expected, "{id}");
        }
        assert_eq!(scope.chain_of(own.id), Some("chain-a"));
        assert_eq!(scope.chain_of(foreign.id), None);
    }

    #[tokio::test]
    async fn a_node_that_was_placed_elsewhere_leaves_the_scope_in_time() {
        let store = TestStore::default();
        let own = node(1, machine(1));
        let id = own.id.to_string();
        store.put_node(own.clone());
        let mut scope = Scope::new(machine(1), NOW, LEASE);
        assert!(scope.own(&store, &id, NOW).await.unwrap().is_some());
        store.put_node(node(1, machine(2)));
        let last = NOW.plus(view_of(LEASE)).minus(Duration::from_millis(1));
        assert!(scope.own(&store, &id, last).await.unwrap().is_some());
        let due = NOW.plus(view_of(LEASE));
        assert!(scope.own(&store, &id, due).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_key_that_will_be_deleted_does_not_count() {
        for (delete_after, expected) in [(None, true), (Some(NOW), false)] {
            let store = TestStore::default();
            let own = node(1, machine(1));
            store.put_node(own.clone());
            store.put_key(key(own.id, delete_after));
            let mut scope = Scope::new(machine(1), NOW, LEASE);
            scope
                .own(&store, &own.id.to_string(), NOW)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(scope.holds_keys(own.id), expected);
        }
    }
}
