//! `bellwether-agent`: the agent as a process of its own.
//!
//! The one-time token comes from a file, never from the command line, which others on the machine can read.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use host_agent::AgentConfig;
use host_runtime::{COMPILE_COMMAND, compile_main};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs beside blockchain nodes and does what the Bellwether host asks.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the agent keeps everything.
    #[arg(long, env = "BELLWETHER_AGENT_STATE_DIR")]
    state_dir: PathBuf,
    /// The gateway, such as `https://gateway.example:9090`.
    #[arg(long, env = "BELLWETHER_AGENT_GATEWAY")]
    gateway: String,
    /// PEM file with the authority that signs the gateway's certificate.
    #[arg(long, env = "BELLWETHER_AGENT_CA_FILE")]
    ca_file: PathBuf,
    /// File with the one-time token; needed until the agent is enrolled.
    #[arg(long, env = "BELLWETHER_AGENT_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The name that people see.
    #[arg(long, env = "BELLWETHER_AGENT_NAME", default_value = "agent")]
    name: String,
}

fn main() -> ExitCode {
    // Before anything else: neither guards nor the compiler's child must pay for, nor be shown, what the agent is.
    if let Some(ended) = host_agent::answer_guard(std::env::args_os().skip(1)) {
        return ended;
    }
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == COMPILE_COMMAND) {
        return match (words.next(), words.next()) {
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
        // A log in a file is read by other programs.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))?;
    let mut config = AgentConfig::new(args.state_dir, args.gateway, args.ca_file, args.name);
    config.token_file = args.token_file;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(run(config))
}

async fn run(config: AgentConfig) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be listened to")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be listened to")?;
    let agent = host_agent::run(config, shutdown.clone());
    tokio::pin!(agent);
    tokio::select! {
        ended = &mut agent => return Ok(ended?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending; the nodes keep running");
    shutdown.cancel();
    Ok(agent.await?)
}
