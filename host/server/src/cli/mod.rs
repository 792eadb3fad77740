//! The `bellwether` command: one file per noun.

mod guest_debian;
mod guest_toolchain;
mod plugin;
mod plugin_build;
mod process;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The control plane for fleets of blockchain nodes.
#[derive(Debug, Parser)]
#[command(name = "bellwether", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
}

/// Runs the command line to its end.
pub async fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Plugin(command) => plugin::run(command).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
