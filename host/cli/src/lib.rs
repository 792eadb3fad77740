//! The subcommands of `bellwether` that speak to a host over HTTP, one file per noun, and the plugin tools.
//!
//! `connection` finds the host and the API key, `client` speaks HTTP, `output` writes tables and JSON.
//! `plugin_tools` builds plugins and needs no host.
//!
//! **Entry points:** [`ClientCommand`], [`KeyCommand`] and [`ChainCommand`] are what clap parses; [`run`], [`run_key`] and
//! [`run_chain`] execute them in a [`Session`]. The program `bellwether` joins them with the host's own subcommands.
//!
//! **Invariant:** whatever a command does to a host goes through its public API, so a program can do the same. This crate
//! knows the API's JSON (`host_wire`) and nothing of the host: no database, no web framework, no WebAssembly runtime.

mod agent;
mod api_key;
mod audit;
mod chain;
mod client;
mod connection;
mod dead_letter;
mod error;
mod incident;
mod key;
mod node;
mod operation;
mod output;
mod plugin;
mod plugin_tools;
mod recipient;
mod sse;
mod subscription;
mod watch;
mod workflow;

use clap::Subcommand;

pub use chain::ChainCommand;
pub use connection::{GlobalArgs, Output};
pub use error::CliError;
pub use key::KeyCommand;

use client::Client;

/// Commands of which this crate has every part.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Create, list, watch, migrate and terminate nodes
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Create, list, pay and cancel subscriptions
    #[command(subcommand)]
    Subscription(subscription::SubscriptionCommand),
    /// List, acknowledge and resolve incidents
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// Build, list and reload plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Show and cancel operations
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    /// List, show and retry workflows
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// List and requeue transitions that the host could not handle
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterCommand),
    /// List, enrol and revoke agents
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// List, create and revoke API keys
    #[command(subcommand)]
    ApiKey(api_key::ApiKeyCommand),
    /// List who did what, to which object
    #[command(subcommand)]
    Audit(audit::AuditCommand),
}

/// What every command needs: the host to speak to, and the form of the output.
#[derive(Debug)]
pub struct Session {
    global: GlobalArgs,
}

impl Session {
    /// A session with the flags that every command takes.
    pub fn new(global: GlobalArgs) -> Self {
        Self { global }
    }

    /// The API of the host that the flags name or that the state folder names.
    fn client(&self) -> Result<Client, CliError> {
        Client::new(self.global.connection()?)
    }

    /// Whether a program reads the output.
    fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }
}

/// Executes a command to its end.
pub async fn run(command: ClientCommand, session: &Session) -> Result<(), CliError> {
    match command {
        ClientCommand::Node(command) => node::run(command, session).await,
        ClientCommand::Subscription(command) => subscription::run(command, session).await,
        ClientCommand::Incident(command) => incident::run(command, session).await,
        ClientCommand::Plugin(command) => plugin::run(command, session).await,
        ClientCommand::Operation(command) => operation::run(command, session).await,
        ClientCommand::Workflow(command) => workflow::run(command, session).await,
        ClientCommand::DeadLetter(command) => dead_letter::run(command, session).await,
        ClientCommand::Agent(command) => agent::run(command, session).await,
        ClientCommand::ApiKey(command) => api_key::run(command, session).await,
        ClientCommand::Audit(command) => audit::run(command, session).await,
    }
}

/// Executes a command on keys of nodes to its end.
pub async fn run_key(command: KeyCommand, session: &Session) -> Result<(), CliError> {
    key::run(command, session).await
}

/// Executes a command on chains to its end.
pub async fn run_chain(command: ChainCommand, session: &Session) -> Result<(), CliError> {
    chain::run(command, session).await
}
