//! Which nodes an agent may speak for: those that are placed on its own host, and no others.

use std::collections::HashMap;
use std::time::Duration;

use host_domain::ids::{MachineId, NodeId};
use host_domain::migration::view_of;
use host_domain::time::Millis;

use host_store::{Db, StoreError};

/// The nodes of one host, as one session knows them.
pub(super) struct Scope {
    machine_id: MachineId,
    nodes: HashMap<NodeId, Known>,
    since: Millis,
    /// A node that moved away is noticed after this time at the latest.
    known_for: Duration,
}

/// What was read of a node.
struct Known {
    chain: String,
    holds_keys: bool,
}

impl Scope {
    /// Leases are prolonged by what this scope knows, so it must not know it for long.
    pub(super) fn new(machine_id: MachineId, now: Millis, lease: Duration) -> Self {
        Self {
            machine_id,
            nodes: HashMap::new(),
            since: now,
            known_for: view_of(lease),
        }
    }

    /// The node's id if the agent may speak for it. What is refused is counted.
    pub(super) async fn own(
        &mut self,
        db: &Db,
        node_id: &str,
        now: Millis,
    ) -> Result<Option<NodeId>, StoreError> {
        let Ok(id) = node_id.parse::<NodeId>() else {
            return Ok(self.refuse(node_id));
        };
        if now.since(self.since) >= self.known_for {
            self.nodes.clear();
            self.since = now;
        }
        if self.nodes.contains_key(&id) {
            return Ok(Some(id));
        }
        let node = db.node(id).await?;
        match node.filter(|node| node.placement.machine_id == Some(self.machine_id)) {
            Some(node) => {
                let keys = db.node_keys(id).await?;
                let known = Known {
                    chain: node.chain_profile_id,
                    holds_keys: keys.iter().any(|key| key.delete_after.is_none()),
                };
                self.nodes.insert(id, known);
                Ok(Some(id))
            }
            None => Ok(self.refuse(node_id)),
        }
    }

    /// The chain of a node that [`Scope::own`] let pass.
    pub(super) fn chain_of(&self, id: NodeId) -> Option<&str> {
        self.nodes.get(&id).map(|known| known.chain.as_str())
    }

    /// Whether a node that [`Scope::own`] let pass holds keys.
    pub(super) fn holds_keys(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|known| known.holds_keys)
    }

    fn refuse(&self, node_id: &str) -> Option<NodeId> {
        metrics::counter!("gateway_refused_total", "reason" => "foreign_node").increment(1);
        let shown: String = node_id.chars().take(64).collect();
        tracing::warn!(host.id = %self.machine_id, node.id = %shown, "an agent spoke for a node that is not on its host");
        None
    }
}
