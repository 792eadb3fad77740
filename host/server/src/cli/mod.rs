//! The `bellwether` command: one file per noun.
//!
//! What concerns a running host goes through its public API and nothing else, so that whatever this can do, a program can.

mod agent;
mod chain;
mod client;
mod connection;
mod database;
mod dead_letter;
mod error;
mod guest_debian;
mod guest_toolchain;
mod incident;
mod key;
mod migrate;
mod node;
mod operation;
mod output;
mod plugin;
mod plugin_build;
mod process;
mod sse;
mod subscription;
mod watch;
mod workflow;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use client::Client;
use connection::{Global, Output};
use error::CliError;

/// The control plane for fleets of blockchain nodes.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done · 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 host not reachable"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything on this machine: host, agent, chain and a first node.
    Dev(crate::dev::DevArgs),
    /// Runs a host as its settings say.
    Serve(crate::serve::ServeArgs),
    /// Brings the database's schema to this program's version.
    Migrate(migrate::MigrateArgs),
    /// Moves an installation's data to another database.
    #[command(subcommand)]
    Db(database::DbCommand),
    /// Makes, shows, watches and removes nodes.
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// Makes, shows, pays and cancels subscriptions.
    #[command(subcommand)]
    Subscription(subscription::SubscriptionCommand),
    /// Shows, takes and resolves incidents.
    #[command(subcommand)]
    Incident(incident::IncidentCommand),
    /// Shows, brings, takes and restores keys of nodes.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Shows and checks chains.
    #[command(subcommand)]
    Chain(chain::ChainCommand),
    /// Builds, shows and reloads plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Shows and cancels long work.
    #[command(subcommand)]
    Operation(operation::OperationCommand),
    /// Shows workflows, and begins one anew.
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Shows transitions that could not be handled, and puts one back.
    #[command(subcommand)]
    DeadLetter(dead_letter::DeadLetterCommand),
    /// Shows, admits and cuts off agents.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Compiles one component, in a process of its own that is bounded in time and memory.
    #[command(name = host_runtime::COMPILE_COMMAND, hide = true)]
    Compile {
        /// The component.
        input: PathBuf,
        /// Where the compiled form goes; `output` is the name of a global flag.
        compiled: PathBuf,
    },
}

/// What every command knows.
pub(crate) struct Session {
    global: Global,
}

impl Session {
    /// The API of the host that was named or found.
    pub(crate) fn client(&self) -> Result<Client, CliError> {
        Client::new(self.global.connection()?)
    }

    /// Whether a program reads the answer.
    pub(crate) fn is_json(&self) -> bool {
        self.global.output == Output::Json
    }
}

/// Runs the command line to its end.
pub fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    // Bounds its own memory, so it must not share its process with a runtime's threads.
    if let Command::Compile { input, compiled } = command {
        return host_runtime::compile_main(&input, &compiled);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&CliError::Other(error.into())),
    };
    // One provider for everything that speaks TLS; a second call finds it set.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match runtime.block_on(dispatch(command, Session { global })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &CliError) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(error.exit_code())
}

async fn dispatch(command: Command, session: Session) -> Result<(), CliError> {
    match command {
        Command::Dev(args) => serve(|shutdown| crate::dev::run(args, shutdown)).await,
        Command::Serve(args) => serve(|shutdown| crate::serve::run(args, shutdown)).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Db(command) => database::run(command).await,
        Command::Node(command) => node::run(command, &session).await,
        Command::Subscription(command) => subscription::run(command, &session).await,
        Command::Incident(command) => incident::run(command, &session).await,
        Command::Key(command) => key::run(command, &session).await,
        Command::Chain(command) => chain::run(command, &session).await,
        Command::Plugin(command) => plugin::run(command, &session).await,
        Command::Operation(command) => operation::run(command, &session).await,
        Command::Workflow(command) => workflow::run(command, &session).await,
        Command::DeadLetter(command) => dead_letter::run(command, &session).await,
        Command::Agent(command) => agent::run(command, &session).await,
        // Done before there was a runtime.
        Command::Compile { .. } => Ok(()),
    }
}

/// Runs what lives until Ctrl-C or SIGTERM, with a log on standard error.
async fn serve<F: Future<Output = anyhow::Result<()>>>(
    host: impl FnOnce(CancellationToken) -> F,
) -> Result<(), CliError> {
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info,duroxide=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A log in a file is read by other programs.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let shutdown = CancellationToken::new();
    let mut served = std::pin::pin!(host(shutdown.clone()));
    let early = tokio::select! {
        ended = &mut served => Some(ended),
        () = asked_to_end() => None,
    };
    shutdown.cancel();
    Ok(match early {
        Some(ended) => ended,
        None => served.await,
    }?)
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler for it, SIGTERM ends the process by itself.
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        drop(tokio::signal::ctrl_c().await);
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
