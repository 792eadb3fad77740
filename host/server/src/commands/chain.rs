//! `bellwether chain validate`: checks chain configurations without a host.

use std::path::PathBuf;

use anyhow::bail;
use clap::Subcommand;

use super::output::say;

/// Commands on chain configurations.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// Validate a folder of chain configurations and report every error in it
    Validate {
        /// The folder
        #[arg(default_value = "chain-configs")]
        dir: PathBuf,
        /// Accept components without a digest, as in development
        #[arg(long)]
        dev: bool,
    },
}

pub(super) fn run(command: &ChainCommand) -> anyhow::Result<()> {
    let ChainCommand::Validate { dir, dev } = command;
    let (report, is_valid) = crate::chains::validate(dir, *dev);
    if is_valid {
        return say(report.trim_end());
    }
    bail!(report)
}
