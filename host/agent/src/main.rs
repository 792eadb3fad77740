//! `bellwether-agent`: the agent as a separate process.
//!
//! The one-time token comes from a file, because other users of the machine can read command lines.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use host_agent::{AgentConfig, AgentSettings};
use host_runtime::{COMPILE_COMMAND, compile_main};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Run blockchain nodes on this machine for a Bellwether host.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Folder for the agent's state and its nodes; created if missing.
    #[arg(long, env = "BELLWETHER_AGENT_STATE_DIR")]
    state_dir: PathBuf,
    /// URL of the host's gateway, such as `https://gateway.example:9090`.
    #[arg(long, env = "BELLWETHER_AGENT_GATEWAY")]
    gateway: String,
    /// PEM file of the certificate authority that signs the gateway's certificate.
    #[arg(long, env = "BELLWETHER_AGENT_CA_FILE")]
    ca_file: PathBuf,
    /// File with the one-time token; required until the agent is enrolled.
    #[arg(long, env = "BELLWETHER_AGENT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// YAML file with the agent's settings, such as plugin secrets; default: `agent.yaml` in the state folder, if it exists.
    #[arg(long, env = "BELLWETHER_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// Name of the agent in the console and the API.
    #[arg(long, env = "BELLWETHER_AGENT_NAME", default_value = "agent")]
    name: String,
}

fn main() -> ExitCode {
    // Guards and the compiler's child must neither set up an agent nor read its configuration.
    if let Some(status) = host_agent::answer_guard(std::env::args_os().skip(1)) {
        return status;
    }
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|arg| arg == COMPILE_COMMAND) {
        return match (args.next(), args.next()) {
            (Some(input), Some(output)) => compile_main(Path::new(&input), Path::new(&output)),
            _ => ExitCode::FAILURE,
        };
    }
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Escape sequences would disturb programs that read a log file.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is already installed"))?;
    let settings = AgentSettings::read(args.config.as_deref(), &args.state_dir)?;
    let mut config = AgentConfig::new(args.state_dir, args.gateway, args.ca_file, args.name);
    config.token_file = args.token_file;
    config.secrets = settings.secrets;
    config.vault = settings.vault;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(config))
}

async fn run(config: AgentConfig) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate =
        signal(SignalKind::terminate()).context("the agent can't listen for SIGTERM")?;
    let mut interrupt =
        signal(SignalKind::interrupt()).context("the agent can't listen for SIGINT")?;
    let agent = host_agent::run(config, shutdown.clone());
    tokio::pin!(agent);
    tokio::select! {
        ended = &mut agent => return Ok(ended?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("the agent shuts down; the nodes keep running");
    shutdown.cancel();
    Ok(agent.await?)
}
