//! `bellwether chain`: what nodes can be made of, and checking its configuration without a host.

use std::path::PathBuf;

use clap::Subcommand;

use super::Session;
use super::client::typed;
use super::error::CliError;
use super::output;
use crate::api::ChainView;

/// What to do with chains.
#[derive(Debug, Subcommand)]
pub(crate) enum ChainCommand {
    /// Lists the chains of the host.
    List,
    /// Checks a folder of chain configurations and says everything that is wrong with it.
    Validate {
        /// The folder.
        #[arg(default_value = "chain-configs")]
        dir: PathBuf,
        /// Components need no digest, as in development.
        #[arg(long)]
        dev: bool,
    },
}

pub(crate) async fn run(command: ChainCommand, session: &Session) -> Result<(), CliError> {
    match command {
        ChainCommand::List => list(session).await,
        ChainCommand::Validate { dir, dev } => {
            let (report, is_right) = crate::chains::validate(&dir, dev);
            if is_right {
                output::say(report.trim_end());
                return Ok(());
            }
            Err(CliError::Failed(report))
        }
    }
}

async fn list(session: &Session) -> Result<(), CliError> {
    let value = session.client()?.list("/api/v1/chains", &[]).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let chains: Vec<ChainView> = typed(value)?;
    let mut table = output::table(&["id", "name", "network", "node types", "plugins"]);
    for chain in chains {
        let types: Vec<String> = chain.node_types.into_keys().collect();
        table.add_row([
            chain.id,
            output::plain(&chain.display_name),
            chain.network_type,
            types.join(", "),
            chain.plugins.join(", "),
        ]);
    }
    output::show(
        &table,
        "There is no chain; add a folder to chain-configs/chains.",
    );
    Ok(())
}
