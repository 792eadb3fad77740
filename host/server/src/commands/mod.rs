//! The subcommands of `bellwether` that are a host or open its database. All others are in `host/cli` and use the API.

pub mod dev;
pub mod serve;

mod chain;
mod db;
mod key;
mod migrate;
mod output;
mod process;
mod settings;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

pub use chain::ChainCommand;
pub use key::KeyCommand;

/// Commands of which this crate has every part.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Run everything on this machine: a host, an agent and a first node
    Dev(dev::DevArgs),
    /// Run only the host; reads `bellwether.yaml` in the current directory
    Serve(serve::ServeArgs),
    /// Migrate the schema of the database to the version of this program
    Migrate(migrate::MigrateArgs),
    /// Export and import the data of an installation
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Compiles one component in a process of its own, which bounds its time and memory.
    #[command(name = host_runtime::COMPILE_COMMAND, hide = true)]
    Compile {
        /// The component.
        input: PathBuf,
        /// File for the compiled component; `output` is the name of a global flag.
        compiled: PathBuf,
    },
}

/// A command that lacks an argument or a setting.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Compiles the component if that is the command. Call it before a runtime starts: it bounds the memory of its process.
pub fn compile(command: &HostCommand) -> Option<ExitCode> {
    match command {
        HostCommand::Compile { input, compiled } => {
            Some(host_runtime::compile_main(input, compiled))
        }
        _ => None,
    }
}

/// Executes a command to its end.
pub async fn run(command: HostCommand) -> anyhow::Result<()> {
    match command {
        // On the heap, because a host is large.
        HostCommand::Dev(args) => process::run(|shutdown| Box::pin(dev::run(args, shutdown))).await,
        HostCommand::Serve(args) => {
            process::run(|shutdown| Box::pin(serve::run(args, shutdown))).await
        }
        HostCommand::Migrate(args) => migrate::run(args).await,
        HostCommand::Db(command) => db::run(command).await,
        // `compile` has ended the process.
        HostCommand::Compile { .. } => Ok(()),
    }
}

/// Executes a command on keys of nodes to its end.
pub async fn run_key(command: KeyCommand) -> anyhow::Result<()> {
    key::run(command).await
}

/// Executes a command on chain configurations to its end.
pub async fn run_chain(command: &ChainCommand) -> anyhow::Result<()> {
    chain::run(command).await
}
