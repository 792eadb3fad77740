//! `bellwether node`: making, seeing and removing nodes.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use serde_json::Value as Json;

use super::client::{segment, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};
use super::{Session, operation, watch};
use crate::api::{
    CreateNodeRequest, Measured, MigrateNodeRequest, NodeAccepted, NodeView, OperationKind,
    OperationState, Value,
};

/// What to do with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Makes a node.
    Create(CreateArgs),
    /// Lists nodes.
    List(ListArgs),
    /// Shows a node.
    Get {
        /// Id or name.
        node: String,
    },
    /// Follows what happens to a node until it is removed or has failed; comes back when the host was away.
    Watch {
        /// Id or name.
        node: String,
    },
    /// Moves a node that is down to another host.
    Migrate {
        /// Id or name.
        node: String,
        /// Moves it although its region's breaker is open or it was moved a moment ago.
        #[arg(long)]
        force: bool,
        /// Waits until it runs there.
        #[arg(long)]
        wait: bool,
    },
    /// Removes a node and everything of it.
    Terminate {
        /// Id or name.
        node: String,
        /// Copies its keys once more before anything is done to it; it stays as it is when that fails.
        #[arg(long)]
        backup_keys: bool,
        /// Waits until nothing of it is left.
        #[arg(long)]
        wait: bool,
    },
}

/// What the node shall be.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Chain profile id, such as `anvil-devnet`.
    #[arg(long)]
    chain: String,
    /// One of the chain's node types.
    #[arg(long = "type", value_name = "TYPE")]
    node_type: Option<String>,
    /// For people; made up when absent.
    #[arg(long)]
    name: Option<String>,
    /// One of the node type's providers.
    #[arg(long)]
    provider: Option<String>,
    /// One of the provider's regions.
    #[arg(long)]
    region: Option<String>,
    /// A value that the chain asks for, as NAME=VALUE.
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// Waits until it is made.
    #[arg(long)]
    wait: bool,
}

/// Which nodes.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Of one chain.
    #[arg(long)]
    chain: Option<String>,
    /// In one state, as it is shown, such as `critical`.
    #[arg(long)]
    state: Option<String>,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(crate) async fn run(command: NodeCommand, session: &Session) -> Result<(), CliError> {
    match command {
        NodeCommand::Create(args) => create(args, session).await,
        NodeCommand::List(args) => list(args, session).await,
        NodeCommand::Get { node } => get(&node, session).await,
        NodeCommand::Watch { node } => watch::run(&node, session).await,
        NodeCommand::Migrate { node, force, wait } => migrate(&node, force, wait, session).await,
        NodeCommand::Terminate {
            node,
            backup_keys,
            wait,
        } => terminate(&node, backup_keys, wait, session).await,
    }
}

async fn create(args: CreateArgs, session: &Session) -> Result<(), CliError> {
    let request = CreateNodeRequest {
        chain: args.chain,
        node_type: args.node_type,
        name: args.name,
        provider: args.provider,
        region: args.region,
        inputs: args.inputs.into_iter().collect::<BTreeMap<_, _>>(),
    };
    let body = serde_json::to_value(&request).map_err(anyhow::Error::new)?;
    let value = session.client()?.post("/api/v1/nodes", Some(&body)).await?;
    accepted(value, args.wait, "is being made", session).await
}

async fn migrate(node: &str, force: bool, wait: bool, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}/migrate", segment(node));
    let body = serde_json::to_value(MigrateNodeRequest { force }).map_err(anyhow::Error::new)?;
    let value = session.client()?.post(&path, Some(&body)).await?;
    accepted(value, wait, "is being moved", session).await
}

async fn terminate(
    node: &str,
    backup_keys: bool,
    wait: bool,
    session: &Session,
) -> Result<(), CliError> {
    let mut path = format!("/api/v1/nodes/{}/terminate", segment(node));
    if backup_keys {
        path.push_str("?backup_keys=true");
    }
    let value = session.client()?.post(&path, None).await?;
    let begun: NodeAccepted = typed(value.clone())?;
    if begun.operation.kind != OperationKind::ProvisionNode {
        return accepted(value, wait, "is being removed", session).await;
    }
    let doing = "is being removed: it was still being made, and what was done is being undone";
    if !wait {
        return accepted(value, wait, doing, session).await;
    }
    if !session.is_json() {
        let name = plain(&begun.name);
        output::say(&format!("Node {name} ({}) {doing}.", begun.node_id));
    }
    undone(&begun, session).await
}

/// Waits until a node that was still being made is gone; that its making was cancelled is what was asked for.
async fn undone(begun: &NodeAccepted, session: &Session) -> Result<(), CliError> {
    let (value, operation) = operation::until_over(session, begun.operation.id).await?;
    if session.is_json() {
        output::json(&value)?;
    }
    if operation.state != OperationState::Cancelled {
        return Err(operation::failure(&operation));
    }
    if !session.is_json() {
        let path = format!("/api/v1/nodes/{}", begun.node_id);
        let node: NodeView = typed(session.client()?.get(&path).await?)?;
        let state = word(node.state);
        output::say(&format!(
            "Done: the node is `{state}` and nothing of it is left."
        ));
    }
    Ok(())
}

async fn accepted(value: Json, wait: bool, doing: &str, session: &Session) -> Result<(), CliError> {
    let accepted: NodeAccepted = typed(value.clone())?;
    let (name, id) = (plain(&accepted.name), accepted.operation.id);
    if !session.is_json() {
        output::say(&format!("Node {name} ({}) {doing}.", accepted.node_id));
    }
    if wait {
        operation::follow(session, id).await?;
        if !session.is_json() {
            output::say(&format!(
                "Done: see `bellwether node get {}`.",
                accepted.node_id
            ));
        }
        return Ok(());
    }
    if session.is_json() {
        return output::json(&value);
    }
    output::say(&format!(
        "Follow it with `bellwether operation get {id} --wait`."
    ));
    Ok(())
}

async fn list(args: ListArgs, session: &Session) -> Result<(), CliError> {
    let query: Vec<(&str, String)> = [("chain", args.chain), ("display", args.state)]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    let value = session.client()?.list("/api/v1/nodes", &query).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let nodes: Vec<NodeView> = typed(value)?;
    let mut table = output::table(&[
        "name", "chain", "type", "state", "health", "height", "beat", "id",
    ]);
    for node in nodes {
        table.add_row([
            plain(&node.name).into(),
            node.chain.as_str().into(),
            node.node_type.as_str().into(),
            output::state(&node.display_state),
            output::state(&word(node.application_health)),
            height(&node).into(),
            node.last_heartbeat.map(ago).unwrap_or_default().into(),
            node.id.to_string().into(),
        ]);
    }
    output::show(
        &table,
        "There is no node; make one with `bellwether node create --chain CHAIN`.",
    );
    Ok(())
}

async fn get(node: &str, session: &Session) -> Result<(), CliError> {
    let value = session
        .client()?
        .get(&format!("/api/v1/nodes/{}", segment(node)))
        .await?;
    if session.is_json() {
        return output::json(&value);
    }
    let node: NodeView = typed(value)?;
    output::say(&format!("{} ({})", plain(&node.name), node.id));
    let mut table = output::table(&["field", "value"]);
    let chain = format!("{}, {}", node.chain, node.node_type);
    table.add_row([Cell::new("chain"), Cell::new(chain)]);
    table.add_row([Cell::new("state"), output::state(&node.display_state)]);
    table.add_row([
        Cell::new("health"),
        output::state(&word(node.application_health)),
    ]);
    table.add_row([Cell::new("sync"), output::state(&word(node.sync_status))]);
    for reason in &node.reasons {
        table.add_row([
            "reason".to_owned(),
            format!("{}: {}", reason.code, plain(&reason.message)),
        ]);
    }
    let beat = node
        .last_heartbeat
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at)));
    table.add_row(["last beat".to_owned(), beat]);
    for process in &node.processes {
        let text = format!(
            "{} {} (pid {}, {} restarts)",
            process.name, process.state, process.pid, process.restarts
        );
        table.add_row(["process".to_owned(), plain(&text)]);
    }
    for (name, port) in &node.ports {
        table.add_row([format!("port {name}"), port.to_string()]);
    }
    for (name, seen) in &node.observations {
        table.add_row([plain(name), plain(&measured(seen))]);
    }
    output::show(&table, "");
    Ok(())
}

pub(super) fn height(node: &NodeView) -> String {
    node.observations
        .get("node.height")
        .map(measured)
        .unwrap_or_default()
}

pub(super) fn measured(seen: &Measured) -> String {
    match &seen.value {
        None => "absent".to_owned(),
        Some(Value::Flag(value)) => value.to_string(),
        Some(Value::Int(value)) => value.to_string(),
        Some(Value::Real(value)) => format!("{value:.3}"),
        Some(Value::Text(value)) => value.clone(),
    }
}
