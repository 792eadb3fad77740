//! What an agent should measure: the host decides it, the gateway sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use host_domain::ids::{AgentId, NodeId};
use host_domain::plugin::{Grants, Limits};

/// Decides what agents measure.
#[async_trait]
pub trait AssignmentSource: Send + Sync + 'static {
    /// The complete list of what an agent should measure now.
    async fn assignments(&self, agent_id: AgentId) -> anyhow::Result<AgentAssignments>;
}

/// The complete list of what an agent should measure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentAssignments {
    /// Rises with every change of chains or revisions.
    pub generation: u64,
    /// By node.
    pub nodes: Vec<NodeAssignment>,
}

/// What is measured at one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeAssignment {
    /// The node.
    pub node_id: NodeId,
    /// Its chain.
    pub chain: String,
    /// Its type.
    pub node_type: String,
    /// Its ports by name.
    pub ports: BTreeMap<String, u16>,
    /// The collectors that measure it.
    pub collectors: Vec<CollectorAssignment>,
}

/// One collector at one node.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectorAssignment {
    /// Its name in the chain.
    pub name: String,
    /// The plugin's name in the chain.
    pub plugin: String,
    /// `sha256:<hex>` of the component in use.
    pub component_digest: String,
    /// The plugin's configuration.
    pub config: serde_json::Value,
    /// Pause between two runs.
    pub every: Duration,
    /// What the plugin may access.
    pub grants: Grants,
    /// The limits of each run.
    pub limits: Limits,
}
