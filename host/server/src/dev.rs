//! `bellwether dev`: the whole product in one process, on one machine, with nothing else installed or started.

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
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::Config;
use crate::host::{Host, HostOptions, Schema};
use crate::ops::{
    CreateNode, MachineOf, NodeFilter, PageRequest, Principal, Scope, ensure_machine,
};
use crate::serve::{open_house, say};
use host_machines::LOCAL;
use host_system::SystemClock;

/// How long a node's removal may take when the host ends.
const TERMINATE_MAX: Duration = Duration::from_mins(1);

/// Runs everything on this machine: host, agent, chain and a first node.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Folder of the chain configurations.
    #[arg(long, default_value = "chain-configs")]
    chains: PathBuf,
    /// Folder of everything that is kept.
    #[arg(long, default_value = ".bellwether")]
    state_dir: PathBuf,
    /// Address of the HTTP API and the console; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
    /// Address for agents; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:9090")]
    gateway: SocketAddr,
    /// Settings file for everything beyond these flags; docs/configuration.md lists every key.
    #[arg(long)]
    config: Option<PathBuf>,
    /// The chain of the first node; the first devnet when absent.
    #[arg(long)]
    chain: Option<String>,
    /// Creates no node when there is none.
    #[arg(long)]
    no_node: bool,
    /// Runs no agent in this process; start `bellwether-agent` beside it.
    #[arg(long)]
    no_agent: bool,
    /// What happens to the nodes when this ends.
    #[arg(long, value_enum, default_value_t = OnExit::Keep)]
    on_exit: OnExit,
}

/// What happens to nodes at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExit {
    /// They keep running, and the next start finds them.
    Keep,
    /// They are stopped and removed.
    Terminate,
}

/// Runs until Ctrl-C or SIGTERM.
pub async fn run(args: DevArgs, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = config_of(&args)?;
    let compile = CompileMode::this_binary().context("this program can't find itself")?;
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
    let state_dir = host.app.config.state_dir.clone();
    let machine = ensure_local_machine(&host.app).await?;
    open_house(&host).await?;
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
    let watched = async {
        if !args.no_node {
            first_node(&host.app, args.chain.as_deref()).await?;
        }
        shutdown.cancelled().await;
        if args.on_exit == OnExit::Terminate {
            terminate_all(&host.app).await?;
        }
        agent_shutdown.cancel();
        anyhow::Ok(())
    };
    let outcome = tokio::try_join!(agent, watched).map(drop);
    say("Ending. Nodes that were kept go on running; the next start finds them.")?;
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
        name: "admin".to_owned(),
        scopes: BTreeSet::from([Scope::Admin]),
        request: None,
    }
}

/// The record of this machine, on which provider `local` puts its nodes.
async fn ensure_local_machine(app: &App) -> anyhow::Result<host_domain::agent::Machine> {
    let mut tx = app.db.begin().await?;
    let machine =
        ensure_machine(&mut tx, LOCAL, &MachineOf::provider(LOCAL), app.clock.now()).await?;
    tx.commit().await?;
    Ok(machine)
}

/// What the agent in this process needs; the token counts until it has a certificate.
async fn prepare_agent(
    host: &Host,
    machine: &host_domain::agent::Machine,
    agent_dir: &Path,
) -> anyhow::Result<AgentConfig> {
    let app = &host.app;
    let mut tx = app.db.begin().await?;
    let mut config = AgentConfig::new(
        agent_dir.to_owned(),
        format!("https://{}", host.gateway),
        host.ca_file.clone(),
        LOCAL.to_owned(),
    );
    // A token for an agent that turns out to be enrolled is never used and expires.
    let issued = app
        .issue_token(&mut tx, machine, None, app.clock.now())
        .await?;
    config.enrolment_token = Some(issued.token);
    tx.commit().await?;
    Ok(config)
}

/// Creates a node when there is none that lives, and tells how its making goes.
async fn first_node(app: &App, chain: Option<&str>) -> anyhow::Result<()> {
    let node = match live_nodes(app).await?.into_iter().next() {
        Some(node) => node,
        None => create_first(app, chain).await?,
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

async fn create_first(app: &App, chain: Option<&str>) -> anyhow::Result<Node> {
    let chains = app.list_chains();
    let chosen = match chain {
        Some(id) => chains.iter().find(|chain| chain.id == id),
        None => chains.iter().find(|chain| chain.network_type == "devnet"),
    };
    let chosen =
        chosen.context("there is no such chain; `bellwether chain list` shows those there are")?;
    let node_type = chosen.node_types.keys().next().cloned().unwrap_or_default();
    let request = CreateNode {
        chain: chosen.id.clone(),
        node_type,
        provider: Some(LOCAL.to_owned()),
        ..CreateNode::default()
    };
    Ok(app.create_node(&admin(), request).await?.0)
}

async fn live_nodes(app: &App) -> anyhow::Result<Vec<Node>> {
    let mut live = Vec::new();
    let mut page = PageRequest {
        limit: 200,
        cursor: None,
    };
    loop {
        let nodes = app.list_nodes(&NodeFilter::default(), &page).await?;
        let found = nodes.items.into_iter().map(|details| details.node);
        live.extend(found.filter(|node| !node.condition.state.is_terminal()));
        match nodes.next {
            Some(next) => page.cursor = Some(next),
            None => return Ok(live),
        }
    }
}

async fn terminate_all(app: &App) -> anyhow::Result<()> {
    let mut operations = Vec::new();
    for node in live_nodes(app).await? {
        say(&format!("Removing {} …", node.name))?;
        operations.push(app.terminate_node(&admin(), node.id, None, false).await?);
    }
    for operation in operations {
        let operation = app.wait_operation(operation.id, TERMINATE_MAX).await?;
        if !operation.state.is_over() {
            say("A node is still being removed; the next start goes on with it.")?;
        }
    }
    Ok(())
}
