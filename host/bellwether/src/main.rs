//! The program `bellwether`: joins the subcommands that run a host with those that speak to one.

use std::fmt::Display;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use host_cli::{ClientCommand, GlobalArgs, Session};
use host_server::commands::{self, HostCommand, UsageError};

/// The control plane for fleets of blockchain nodes
#[derive(Debug, Parser)]
#[command(name = "bellwether", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 done · 1 failed · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 host unavailable"
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Host(HostCommand),
    #[command(flatten)]
    Client(ClientCommand),
    /// List, import, export and restore keys of nodes
    #[command(subcommand)]
    Key(KeyCommand),
    /// List chains and validate chain configurations
    #[command(subcommand)]
    Chain(ChainCommand),
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    #[command(flatten)]
    Client(host_cli::KeyCommand),
    #[command(flatten)]
    Host(commands::KeyCommand),
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    #[command(flatten)]
    Client(host_cli::ChainCommand),
    #[command(flatten)]
    Host(commands::ChainCommand),
}

fn main() -> ExitCode {
    // `dev` runs an agent, and this program guards the agent's processes with keys.
    host_agent::answer_guard(std::env::args_os().skip(1)).unwrap_or_else(run)
}

fn run() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    if let Command::Host(command) = &command
        && let Some(ended) = commands::compile(command)
    {
        return ended;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error, 1),
    };
    // One TLS provider for all parts; a second call finds it set.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    runtime.block_on(dispatch(command, Session::new(global)))
}

async fn dispatch(command: Command, session: Session) -> ExitCode {
    match command {
        Command::Host(command) => of_host(commands::run(command).await),
        Command::Client(command) => of_client(host_cli::run(command, &session).await),
        Command::Key(KeyCommand::Host(command)) => of_host(commands::run_key(command).await),
        Command::Key(KeyCommand::Client(command)) => {
            of_client(host_cli::run_key(command, &session).await)
        }
        Command::Chain(ChainCommand::Host(command)) => of_host(commands::run_chain(&command).await),
        Command::Chain(ChainCommand::Client(command)) => {
            of_client(host_cli::run_chain(command, &session).await)
        }
    }
}

fn of_host(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<UsageError>() => failed(&error, 2),
        Err(error) => failed(&format_args!("{error:#}"), 1),
    }
}

fn of_client(outcome: Result<(), host_cli::CliError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, error.exit_code()),
    }
}

fn failed(error: &dyn Display, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_joined_commands_are_consistent_and_each_has_a_description() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        let mut commands: Vec<clap::Command> = cli.get_subcommands().cloned().collect();
        let mut n_described = 0;
        while let Some(command) = commands.pop() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            n_described += 1;
            // `help` repeats the tree of the commands without their texts.
            if command.get_name() != "help" {
                commands.extend(command.get_subcommands().cloned());
            }
        }
        assert!(n_described > 30, "{n_described} commands");
    }
}
