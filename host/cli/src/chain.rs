//! `bellwether chain`: the chains that nodes can run.

use clap::Subcommand;
use host_wire::ChainView;

use super::Session;
use super::client::{NoFilter, typed};
use super::error::CliError;
use super::output;

/// Commands on the chains of a host.
#[derive(Debug, Subcommand)]
pub enum ChainCommand {
    /// List the chains of the host
    List,
}

pub(crate) async fn run(command: ChainCommand, session: &Session) -> Result<(), CliError> {
    match command {
        ChainCommand::List => list(session).await,
    }
}

async fn list(session: &Session) -> Result<(), CliError> {
    let value = session
        .client()?
        .list("/api/v1/chains", &NoFilter {})
        .await?;
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
        "The host has no chains; add a folder to chain-configs/chains.",
    );
    Ok(())
}
