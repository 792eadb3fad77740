//! The process of a host: its log, and the signals that end it.

use std::io::IsTerminal as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Runs a host until it ends, or until Ctrl-C or SIGTERM, with a log on standard error.
pub(super) async fn run<F: Future<Output = anyhow::Result<()>>>(
    host: impl FnOnce(CancellationToken) -> F,
) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env();
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info,duroxide=error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Programs read a log that is redirected into a file.
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    let shutdown = CancellationToken::new();
    let mut host = std::pin::pin!(host(shutdown.clone()));
    let early = tokio::select! {
        ended = &mut host => Some(ended),
        () = end_signal() => None,
    };
    shutdown.cancel();
    match early {
        Some(ended) => ended,
        None => host.await,
    }
}

async fn end_signal() {
    // Without a handler for it, SIGTERM ends the process at once.
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        drop(tokio::signal::ctrl_c().await);
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
