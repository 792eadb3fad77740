//! What the gateway needs from the database: whole units of work, which the host implements.
//!
//! Each method that writes is one transaction. The implementation repeats a transaction that the database rolled back
//! because of a concurrent one.

use async_trait::async_trait;
use host_domain::agent::{Agent, EnrolmentToken, TokenRefused};
use host_domain::command::{Command, CommandOutcome, CommandState};
use host_domain::heartbeat::NodeBeat;
use host_domain::ids::{AgentId, CommandId, NodeId};
use host_domain::key::NodeKey;
use host_domain::node::Node;
use host_domain::node_event::NodeEventEntry;
use host_domain::observation::Observation;
use host_domain::time::Millis;

/// The result of one unit of work.
pub type StoreResult<T> = Result<T, GatewayStoreError>;

/// Why a unit of work failed; nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum GatewayStoreError {
    /// The same call can succeed later.
    #[error("the database is busy or unavailable; retry in a few seconds")]
    Transient(#[source] anyhow::Error),
    /// The same call fails until a person repairs the cause.
    #[error("the database refused a request of the gateway")]
    Permanent(#[source] anyhow::Error),
}

/// Everything that the gateway needs from the database.
pub trait GatewayStore: AgentStore + CommandStore + NodeStore + 'static {}

impl<T: AgentStore + CommandStore + NodeStore + 'static> GatewayStore for T {}

/// The outcome of an attempt to use an enrolment token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolOutcome {
    /// The agent is now the only one of its machine.
    Enrolled {
        /// The older agents of the machine, which were revoked.
        revoked: Vec<AgentId>,
    },
    /// Somebody else used or revoked the token first.
    Refused(TokenRefused),
}

/// Agents, their enrolment and their revocation.
#[async_trait]
pub trait AgentStore: Send + Sync {
    /// An agent by its id, revoked or not.
    async fn agent(&self, id: AgentId) -> StoreResult<Option<Agent>>;

    /// An enrolment token by the SHA-256 of its text, in hex.
    async fn enrolment_token(&self, hash: &str) -> StoreResult<Option<EnrolmentToken>>;

    /// Uses up the token and stores the agent. Older agents of its machine are revoked, and the agent takes over their
    /// unfinished commands.
    async fn enrol_agent(&self, token_hash: &str, agent: &Agent) -> StoreResult<EnrolOutcome>;

    /// Stores when the agent's new certificate expires; `false` when the agent is unknown or revoked.
    async fn renew_agent(&self, id: AgentId, not_after: Millis, now: Millis) -> StoreResult<bool>;

    /// Stores the version that the agent reported.
    async fn set_agent_version(&self, id: AgentId, version: &str) -> StoreResult<()>;

    /// How many agents this process has revoked since it started. It only rises.
    fn revocations_here(&self) -> u64;

    /// How many agents all processes have ever revoked. It only rises.
    async fn revocations_anywhere(&self) -> StoreResult<u64>;
}

/// Commands to agents.
#[async_trait]
pub trait CommandStore: Send + Sync {
    /// A command by its id.
    async fn command(&self, id: CommandId) -> StoreResult<Option<Command>>;

    /// The commands that an agent has not accepted yet, in the order of queueing.
    async fn pending_commands(&self, agent: AgentId, limit: u32) -> StoreResult<Vec<Command>>;

    /// Marks a queued command as delivered; `false` when it is not queued any more.
    async fn mark_command_delivered(&self, id: CommandId, now: Millis) -> StoreResult<bool>;

    /// Marks a command as accepted; `false` when it was accepted before or has ended.
    async fn mark_command_accepted(&self, id: CommandId, now: Millis) -> StoreResult<bool>;

    /// Stores a command's result, unless it has one already, and returns the command as stored.
    async fn finish_command(
        &self,
        id: CommandId,
        state: CommandState,
        outcome: &CommandOutcome,
        now: Millis,
    ) -> StoreResult<Option<Command>>;
}

/// Nodes, and what agents report of them.
#[async_trait]
pub trait NodeStore: Send + Sync {
    /// A node by its id.
    async fn node(&self, id: NodeId) -> StoreResult<Option<Node>>;

    /// The keys of a node.
    async fn node_keys(&self, node: NodeId) -> StoreResult<Vec<NodeKey>>;

    /// One key of a node.
    async fn node_key(&self, node: NodeId, name: &str) -> StoreResult<Option<NodeKey>>;

    /// Stores beats of nodes, and when agents were last seen.
    async fn record_beats(
        &self,
        beats: &[NodeBeat],
        agents: &[(AgentId, Millis)],
    ) -> StoreResult<()>;

    /// Stores observations; one that exists already stays.
    async fn insert_observations(&self, rows: &[(NodeId, Observation)]) -> StoreResult<()>;

    /// Appends events, each with its node's chain, to the nodes' histories and to the event log. An event whose id exists
    /// already is skipped.
    async fn append_node_events(
        &self,
        events: &[(NodeEventEntry, Option<String>)],
        now: Millis,
    ) -> StoreResult<()>;
}
