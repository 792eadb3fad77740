//! `bellwether node`: creates, shows, migrates and terminates nodes.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use host_wire::{
    CreateNodeRequest, Measured, MigrateNodeRequest, NodeAccepted, NodeView, NodesQuery,
    OperationKind, OperationState, TerminateQuery, Value,
};
use serde_json::Value as Json;

use super::client::{segment, typed};
use super::error::CliError;
use super::output::{self, ago, plain, word};
use super::{Session, operation, watch};

/// Commands on nodes.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Create a node
    Create(CreateArgs),
    /// List nodes
    List(ListArgs),
    /// Show a node
    Get {
        /// Name or id of the node
        node: String,
    },
    /// Show the events of a node until it is terminated or has failed; reconnects when the host restarts
    Watch {
        /// Name or id of the node
        node: String,
    },
    /// Migrate a node that is down to another machine
    Migrate {
        /// Name or id of the node
        node: String,
        /// Migrate although the region's circuit breaker is open or the node was migrated recently
        #[arg(long)]
        force: bool,
        /// Wait until the node runs on the other machine
        #[arg(long)]
        wait: bool,
    },
    /// Terminate a node and delete its data
    Terminate {
        /// Name or id of the node
        node: String,
        /// Back up its keys first; without a backup the node stays as it is
        #[arg(long)]
        backup_keys: bool,
        /// Wait until the node is terminated
        #[arg(long)]
        wait: bool,
    },
}

/// The new node.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Id of the chain, such as `anvil-devnet`
    #[arg(long)]
    chain: String,
    /// Node type; default: the chain's only one
    #[arg(long = "type", value_name = "TYPE")]
    node_type: Option<String>,
    /// Name; default: generated
    #[arg(long)]
    name: Option<String>,
    /// Machine provider; default: the node type's first one
    #[arg(long)]
    provider: Option<String>,
    /// Region; default: the provider's default region
    #[arg(long)]
    region: Option<String>,
    /// Value of an input of the chain; repeat for further inputs
    #[arg(long = "input", value_name = "NAME=VALUE", value_parser = pair)]
    inputs: Vec<(String, String)>,
    /// Wait until the node is created
    #[arg(long)]
    wait: bool,
}

/// Filters of nodes.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only nodes of this chain
    #[arg(long)]
    chain: Option<String>,
    /// Only nodes in this state, as the list shows it, such as `critical`
    #[arg(long)]
    state: Option<String>,
}

/// Parses an argument of the form NAME=VALUE.
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
        inputs: args.inputs.into_iter().collect(),
    };
    let value = session.client()?.post("/api/v1/nodes", &request).await?;
    report(value, args.wait, "is being created", session).await
}

async fn migrate(node: &str, force: bool, wait: bool, session: &Session) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}/migrate", segment(node));
    let request = MigrateNodeRequest { force };
    let value = session.client()?.post(&path, &request).await?;
    report(value, wait, "is being migrated", session).await
}

async fn terminate(
    node: &str,
    backup_keys: bool,
    wait: bool,
    session: &Session,
) -> Result<(), CliError> {
    let path = format!("/api/v1/nodes/{}/terminate", segment(node));
    let query = TerminateQuery { backup_keys };
    let value = session.client()?.post_query(&path, &query).await?;
    let accepted: NodeAccepted = typed(value.clone())?;
    if accepted.operation.kind != OperationKind::ProvisionNode {
        return report(value, wait, "is being terminated", session).await;
    }
    let doing = "is being terminated: its creation was still running and is being undone";
    if !wait {
        return report(value, wait, doing, session).await;
    }
    if !session.is_json() {
        let name = plain(&accepted.name);
        output::say(&format!("Node {name} ({}) {doing}.", accepted.node_id));
    }
    wait_for_undo(&accepted, session).await
}

/// Waits until the creation of a node is undone. The operation is `cancelled` then, and that is success here.
async fn wait_for_undo(accepted: &NodeAccepted, session: &Session) -> Result<(), CliError> {
    let (value, operation) = operation::until_over(session, accepted.operation.id).await?;
    if session.is_json() {
        output::json(&value)?;
    }
    if operation.state != OperationState::Cancelled {
        return Err(operation::failure(&operation));
    }
    if !session.is_json() {
        let path = format!("/api/v1/nodes/{}", accepted.node_id);
        let node: NodeView = typed(session.client()?.get(&path).await?)?;
        let state = word(node.state);
        output::say(&format!(
            "Done: the node is `{state}` and its data is deleted."
        ));
    }
    Ok(())
}

/// Reports what the host accepted; with `wait`, follows the operation to its end.
async fn report(value: Json, wait: bool, doing: &str, session: &Session) -> Result<(), CliError> {
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
    let filter = NodesQuery {
        chain: args.chain,
        display: args.state,
        ..NodesQuery::default()
    };
    let value = session.client()?.list("/api/v1/nodes", &filter).await?;
    if session.is_json() {
        return output::json(&value);
    }
    let nodes: Vec<NodeView> = typed(value)?;
    let mut table = output::table(&[
        "name",
        "chain",
        "type",
        "state",
        "health",
        "height",
        "heartbeat",
        "id",
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
        "There are no nodes; create one with `bellwether node create --chain CHAIN`.",
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
    let heartbeat = node
        .last_heartbeat
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at)));
    table.add_row(["last heartbeat".to_owned(), heartbeat]);
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
