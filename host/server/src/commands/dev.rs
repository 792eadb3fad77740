//! `bellwether dev`: runs a host, an agent and a first node in one process on one machine.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use host_agent::AgentConfig;
use host_domain::node::Node;
use host_runtime::CompileMode;
use host_wire::state_folder::STATE_FOLDER;
use tokio_util::sync::CancellationToken;

use super::output::say;
use super::serve::announce;
use crate::config::Config;
use crate::host::{Host, HostOptions, Schema};
use crate::ops::{
    CreateNode, MachineOf, NodeFilter, PageRequest, Principal, Scope, UseCases, ensure_machine,
};
use host_machines::LOCAL;
use host_store::Role;
use host_system::SystemClock;

/// Longest wait for the termination of a node when the host stops.
const TERMINATE_MAX: Duration = Duration::from_mins(1);

/// Arguments of `bellwether dev`.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Folder of the chain configurations
    #[arg(long, value_name = "DIR", default_value = "chain-configs")]
    chains: PathBuf,
    /// Folder of all state
    #[arg(long, value_name = "DIR", default_value = STATE_FOLDER)]
    state_dir: PathBuf,
    /// Address of the HTTP API and the console; port 0 selects a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Address for agents; port 0 selects a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    gateway: SocketAddr,
    /// File with further settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Chain of the first node; default: the first devnet
    #[arg(long)]
    chain: Option<String>,
    /// Create no first node
    #[arg(long)]
    no_node: bool,
    /// Run no agent in this process, because `bellwether-agent` runs as its own
    #[arg(long)]
    no_agent: bool,
    /// What happens to the nodes when the command ends
    #[arg(long, value_enum, default_value_t = OnExit::Keep)]
    on_exit: OnExit,
}

/// What happens to the nodes when the command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExit {
    /// They keep running, and the next start finds them
    Keep,
    /// They are terminated
    Terminate,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: DevArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = config_of(&args)?;
    let compile = CompileMode::this_binary().context("the path of this program is unknown")?;
    let host = Host::start(
        config,
        HostOptions {
            compile,
            clock: Arc::new(SystemClock),
            schema: Schema::Migrate,
            take_over_workflows: false,
        },
    )
    .await?;
    let state_dir = host.config().state_dir.clone();
    let machine = ensure_local_machine(&host).await?;
    announce(&host).await?;
    let agent_shutdown = CancellationToken::new();
    let agent = async {
        if args.no_agent {
            return Ok(());
        }
        let agent_config = prepare_agent(&host, &machine, &state_dir.join("agent")).await?;
        host_agent::run(agent_config, agent_shutdown.clone())
            .await
            .context("the local agent ended")
    };
    let node = async {
        if !args.no_node {
            first_node(&host.ops, args.chain.as_deref()).await?;
        }
        shutdown.cancelled().await;
        if args.on_exit == OnExit::Terminate {
            terminate_all(&host.ops).await?;
        }
        agent_shutdown.cancel();
        anyhow::Ok(())
    };
    let outcome = tokio::try_join!(agent, node).map(drop);
    say("Stopping. Nodes that were not terminated keep running; the next start finds them.")?;
    host.stop().await;
    outcome
}

fn config_of(args: &DevArgs) -> anyhow::Result<Config> {
    let mut config = Config::read(args.config.as_deref(), std::env::vars())?;
    config.state_dir.clone_from(&args.state_dir);
    config.chains.dir.clone_from(&args.chains);
    config.chains.allow_undigested = true;
    config.http.listen = args.http;
    config.gateway.listen = args.gateway;
    Ok(config)
}

fn admin() -> Principal {
    Principal {
        name: super::serve::admin_key_name(),
        scopes: BTreeSet::from([Scope::Admin]),
        request: None,
        request_id: None,
    }
}

/// The record of this machine, on which the machine provider `local` creates nodes.
async fn ensure_local_machine(host: &Host) -> anyhow::Result<host_domain::agent::Machine> {
    let records = host.services().records(Role::Api);
    let mut tx = records.db.begin().await?;
    let machine =
        ensure_machine(&mut tx, LOCAL, &MachineOf::provider(LOCAL), records.now()).await?;
    tx.commit().await?;
    Ok(machine)
}

/// The configuration of the agent in this process. It needs the token until it has a certificate.
async fn prepare_agent(
    host: &Host,
    machine: &host_domain::agent::Machine,
    agent_dir: &Path,
) -> anyhow::Result<AgentConfig> {
    let records = host.services().records(Role::Api);
    let mut tx = records.db.begin().await?;
    let mut config = AgentConfig::new(
        agent_dir.to_owned(),
        format!("https://{}", host.gateway),
        host.ca_file.clone(),
        LOCAL.to_owned(),
    );
    // The agent of this process has this process's settings.
    config.secrets.clone_from(&host.config().secrets);
    config.vault.clone_from(&host.config().vault);
    // An enrolled agent does not use the token, and it expires.
    let issued = host
        .services()
        .agents
        .issue_token(&mut tx, machine, None, records.now())
        .await?;
    config.enrolment_token = Some(issued.token);
    tx.commit().await?;
    Ok(config)
}

/// Creates a node if none is alive, and shows how to watch it.
async fn first_node(ops: &UseCases, chain: Option<&str>) -> anyhow::Result<()> {
    let node = match live_nodes(ops).await?.into_iter().next() {
        Some(node) => node,
        None => create_first(ops, chain).await?,
    };
    say(&format!(
        "Node {} ({}, {}) is {}; watch it with `bellwether node watch {}`.",
        node.name,
        node.chain_profile_id,
        node.node_type,
        node.condition.display_state(),
        node.name
    ))
}

async fn create_first(ops: &UseCases, chain: Option<&str>) -> anyhow::Result<Node> {
    let chains = ops.chains.list();
    let chosen = match chain {
        Some(id) => chains.iter().find(|chain| chain.id == id),
        None => chains.iter().find(|chain| chain.network_type == "devnet"),
    };
    let chosen =
        chosen.context("the chain does not exist; `bellwether chain list` shows all chains")?;
    let node_type = chosen.node_types.keys().next().cloned().unwrap_or_default();
    let request = CreateNode {
        chain: chosen.id.clone(),
        node_type,
        provider: Some(LOCAL.to_owned()),
        ..CreateNode::default()
    };
    Ok(ops.nodes.create(&admin(), request).await?.0)
}

async fn live_nodes(ops: &UseCases) -> anyhow::Result<Vec<Node>> {
    let mut live = Vec::new();
    let mut page = PageRequest {
        limit: 200,
        cursor: None,
    };
    loop {
        let nodes = ops.nodes.list(&NodeFilter::default(), &page).await?;
        let found = nodes.items.into_iter().map(|details| details.node);
        live.extend(found.filter(|node| !node.condition.state.is_terminal()));
        match nodes.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(live),
        }
    }
}

async fn terminate_all(ops: &UseCases) -> anyhow::Result<()> {
    let mut operations = Vec::new();
    for node in live_nodes(ops).await? {
        say(&format!("Terminating {} …", node.name))?;
        operations.push(ops.nodes.terminate(&admin(), node.id, None, false).await?);
    }
    for operation in operations {
        let operation = ops.operations.wait(operation.id, TERMINATE_MAX).await?;
        if !operation.state.is_over() {
            say("The termination of a node is not finished; the next start resumes it.")?;
        }
    }
    Ok(())
}
