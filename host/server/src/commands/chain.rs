//! `bellwether chain validate`: checks chain configurations without a host.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use clap::Subcommand;
use host_domain::time::Clock;
use host_system::SystemClock;

use super::output::say;
use super::settings::SettingsArgs;
use crate::host::plugin_secrets;

/// Commands on chain configurations.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// Validate a folder of chain configurations, with the host's settings also its secrets, and report every error
    Validate {
        /// The folder
        #[arg(default_value = "chain-configs")]
        dir: PathBuf,
        /// Accept components without a digest, as in development
        #[arg(long)]
        dev: bool,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

pub(super) async fn run(command: &ChainCommand) -> anyhow::Result<()> {
    let ChainCommand::Validate { dir, dev, settings } = command;
    let secrets = match settings.read_file()? {
        Some(config) => Some(plugin_secrets(&config, &clock()).await?),
        None => None,
    };
    let (report, is_valid) = crate::chains::validate(dir, *dev, secrets.as_deref());
    if is_valid {
        return say(report.trim_end());
    }
    bail!(report)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}
