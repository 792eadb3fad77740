//! The gateway: tonic services for agents, behind mutual TLS with the host's own authority (design: agents.md).
//!
//! The only place of the server that names tonic. It carries: beats, observations and results go in, commands and
//! assignments go out. What they mean for a node is decided elsewhere, behind [`GatewayEvents`] and [`AssignmentSource`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use host_domain::command::Command;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::key::NodeKey;
use host_domain::node::Node;
use host_domain::plugin::{Grants, Limits};
use host_domain::time::{Clock, Millis};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use host_store::{Db, NodeEventEntry};

mod assignments;
mod beats;
mod ca;
mod commands;
mod components;
mod convert;
mod delivery;
mod enroll;
mod hub;
mod inbound;
mod ingest;
mod keys;
mod peer;
mod scope;
mod server;
mod session;
mod standing;
mod steps;

pub use assignments::is_measured;
pub use ca::{CaError, CertificateAuthority, IssuedCertificate, ServerIdentity};
pub use commands::{CommandTooLarge, Order, encode_command};
pub use hub::Sessions;
pub use ingest::{ObservationFeed, ObservationUpdate};
pub use server::{Gateway, GatewayError};

/// Where the gateway listens and what bounds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Address to listen on; port 0 takes any.
    pub listen: SocketAddr,
    /// Names and addresses that agents may use besides the machine's own.
    pub names: Vec<String>,
    /// Agents are told to beat this often.
    pub beat_interval: Duration,
    /// Beats are written at most this often.
    pub beat_flush_interval: Duration,
    /// A session looks for commands by itself this often; wake-ups come at once.
    pub look_interval: Duration,
    /// Agents that may be connected to this process.
    pub sessions_max: usize,
    /// A message that an agent does not take in this time ends its session.
    pub send_timeout: Duration,
    /// Open calls may end in this time when the host stops.
    pub stop_grace: Duration,
    /// How long processes with keys may run after each answer.
    pub lease: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            names: Vec::new(),
            beat_interval: Duration::from_secs(15),
            beat_flush_interval: Duration::from_millis(500),
            look_interval: Duration::from_secs(15),
            sessions_max: 10_000,
            send_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            lease: Duration::from_mins(5),
        }
    }
}

/// Finds a component's file by its digest (`sha256:<hex>`).
pub type ComponentLookup = Arc<dyn Fn(&str) -> Option<PathBuf> + Send + Sync>;

/// Opens a node's sealed key for its agent.
pub type KeyOpener =
    Arc<dyn Fn(NodeKey) -> BoxFuture<'static, Result<Vec<u8>, KeyUnopened>> + Send + Sync>;

/// Whether a person still has to bring the key of that name.
pub type KeyAwaited = Arc<dyn Fn(&Node, &str) -> bool + Send + Sync>;

/// Why a key was not opened.
#[derive(Debug, thiserror::Error)]
#[error("a key can't be opened")]
pub struct KeyUnopened {
    /// Whether the agent may ask again soon.
    pub may_heal: bool,
    /// Why.
    pub source: anyhow::Error,
}

/// What the gateway works with.
#[derive(Clone)]
pub struct GatewayParts {
    /// The database.
    pub db: Db,
    /// The time, for certificates, tokens and beats.
    pub clock: Arc<dyn Clock>,
    /// Signs certificates.
    pub authority: Arc<CertificateAuthority>,
    /// Who is connected.
    pub sessions: Sessions,
    /// Where stored observations are shown live.
    pub observations: ObservationFeed,
    /// Who is told what agents say.
    pub events: Arc<dyn GatewayEvents>,
    /// Says what agents measure.
    pub assignments: Arc<dyn AssignmentSource>,
    /// Finds components that agents fetch.
    pub components: ComponentLookup,
    /// Opens keys that agents fetch.
    pub keys: KeyOpener,
    /// Tells a key that is yet to come from one that will never be.
    pub is_key_awaited: KeyAwaited,
    /// Ends everything.
    pub shutdown: CancellationToken,
    /// Knows every task, so that the host's end can wait for them.
    pub tasks: TaskTracker,
}

/// Who is told what agents say. Everything is stored before it is told. Each call has a few seconds; what comes from an
/// agent's stored word (results, events) is told at least once, so handlers are idempotent by its id.
#[async_trait]
pub trait GatewayEvents: Send + Sync + 'static {
    /// An agent's session began.
    async fn agent_connected(&self, agent_id: AgentId);

    /// An agent's session ended and there is no newer one.
    async fn agent_disconnected(&self, agent_id: AgentId);

    /// A command is under way. Not stored by the gateway.
    async fn command_progress(&self, command_id: CommandId, progress: CommandProgress);

    /// A command is over; its result is in the database. Told again when the agent repeats itself.
    async fn command_finished(&self, command: Command);

    /// A collector brought nothing, or less than it should. Not stored by the gateway.
    async fn collector_failed(&self, failure: CollectorFailure);

    /// A collector measured a node as it should.
    async fn collector_worked(&self, _node_id: NodeId, _collector: &str) {}

    /// Something happened to a node's processes. Told again when the agent repeats itself.
    async fn node_event(&self, event: NodeEventEntry);

    /// Observations were stored; policies may look at them.
    async fn observations_stored(&self, _update: &ObservationUpdate) {}

    /// An agent compiled a component, or could not.
    async fn component_reported(&self, _agent_id: AgentId, _report: ComponentReport) {}
}

/// Says what agents measure.
#[async_trait]
pub trait AssignmentSource: Send + Sync + 'static {
    /// The whole of what an agent should measure now.
    async fn assignments(&self, agent_id: AgentId) -> anyhow::Result<AgentAssignments>;
}

/// How far a command is.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandProgress {
    /// The recipe's step at work.
    pub step: String,
    /// Its place, from 0.
    pub step_index: u32,
    /// Steps in all.
    pub step_count: u32,
    /// 0 to 1 within the step; `None` when it can't tell.
    pub fraction: Option<f64>,
    /// For people.
    pub message: String,
}

/// A collector's run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorFailure {
    /// The node that was measured.
    pub node_id: NodeId,
    /// The collector's name in the chain.
    pub collector: String,
    /// Whether the plugin itself broke, as opposed to the node not answering.
    pub plugin_fault: bool,
    /// Whether it broke so often that the agent calls it only now and then.
    pub is_paused: bool,
    /// What went wrong.
    pub error: String,
    /// When, by the agent's clock.
    pub at: Millis,
}

/// What became of a component at an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentReport {
    /// `sha256:<hex>`.
    pub digest: String,
    /// Whether it can be used.
    pub ready: bool,
    /// Why not.
    pub error: String,
}

/// The whole of what an agent should measure.
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
    /// What measures it.
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
    /// What it may touch.
    pub grants: Grants,
    /// What bounds it.
    pub limits: Limits,
}
