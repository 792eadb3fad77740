//! What the gateway reports to the host about agents.

use async_trait::async_trait;
use host_domain::command::Command;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::node_event::NodeEventEntry;
use host_domain::observation::Observation;
use host_domain::time::Millis;

/// Handles what agents report. The gateway stores everything before it calls a handler, and cancels a handler after a few
/// seconds. It reports results and events at least once, so their handlers are idempotent by id.
#[async_trait]
pub trait GatewayEvents: Send + Sync + 'static {
    /// An agent's session started.
    async fn agent_connected(&self, agent_id: AgentId);

    /// An agent's session ended and the agent has no newer one.
    async fn agent_disconnected(&self, agent_id: AgentId);

    /// An agent executes a command. The gateway does not store progress.
    async fn command_progress(&self, command_id: CommandId, progress: CommandProgress);

    /// A command ended and its result is in the database. Called again when the agent repeats the result.
    async fn command_finished(&self, command: Command);

    /// A collector failed. The gateway does not store failures.
    async fn collector_failed(&self, failure: CollectorFailure);

    /// A collector measured a node without an error.
    async fn collector_worked(&self, _node_id: NodeId, _collector: &str) {}

    /// Something happened to a node's processes. Called again when the agent repeats the event.
    async fn node_event(&self, event: NodeEventEntry);

    /// Observations were stored.
    async fn observations_stored(&self, _update: &ObservationUpdate) {}

    /// An agent compiled a component, or could not.
    async fn component_reported(&self, _agent_id: AgentId, _report: ComponentReport) {}
}

/// How far the execution of a command is.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandProgress {
    /// The current step of the recipe.
    pub step: String,
    /// Its position, from 0.
    pub step_index: u32,
    /// Number of steps.
    pub step_count: u32,
    /// 0 to 1 within the step; `None` when the step can't measure it.
    pub fraction: Option<f64>,
    /// For people.
    pub message: String,
}

/// A failed run of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorFailure {
    /// The node that the collector measures.
    pub node_id: NodeId,
    /// The collector's name in the chain.
    pub collector: String,
    /// Whether the plugin itself failed; otherwise the node did not answer.
    pub plugin_fault: bool,
    /// Whether the plugin failed so often that the agent calls it only now and then.
    pub is_paused: bool,
    /// What went wrong.
    pub error: String,
    /// When it failed, by the agent's clock.
    pub at: Millis,
}

/// Whether an agent can use a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentReport {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Whether the agent can use it.
    pub ready: bool,
    /// Why the agent can't use it.
    pub error: String,
}

/// New observations of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservationUpdate {
    /// The node.
    pub node_id: NodeId,
    /// Its chain.
    pub chain: Option<String>,
    /// The observations.
    pub observations: Vec<Observation>,
}
