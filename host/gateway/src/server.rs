//! The gRPC server: its TLS, its limits, its certificate's renewal and its shutdown.
//!
//! One port serves enrolment, which has no client certificate, and all other calls, which require one. So TLS requests a
//! certificate but does not require it; `authorize` requires it for each call but enrolment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Millis;
use proto::v1::agent_gateway_server::AgentGatewayServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::beats::BeatWriter;
use crate::ca::CaError;
use crate::config::{GatewayConfig, GatewayOptions};
use crate::ingest::{self, IngestQueue, Ingester};
use crate::parts::GatewayParts;
use crate::revocations::RevocationCounter;
use crate::service::GatewayService;
use crate::shared::Shared;

/// The size limit of a message, in either direction.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
const STREAMS_PER_CONNECTION: u32 = 32;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a running gateway checks whether its certificate is due for renewal.
const RENEWAL_CHECK_INTERVAL: Duration = Duration::from_hours(1);

/// Why the gateway can't run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is in use, or not an address of this machine.
    #[error(
        "the gateway can't listen on {address}; stop the process that uses it, or set `gateway.listen` (`--gateway` of `dev`) to another address"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The gateway's certificate is not usable.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// TLS or the server is not usable.
    #[error("can't set up the gateway's server")]
    Transport(#[source] tonic::transport::Error),
}

/// A running gateway. It stops when its shutdown token is cancelled.
pub struct Gateway {
    local_addr: SocketAddr,
}

impl Gateway {
    /// Listens, and serves in tasks of the given tracker until the shutdown token is cancelled.
    pub async fn start(
        config: GatewayConfig,
        options: GatewayOptions,
        parts: GatewayParts,
    ) -> Result<Self, GatewayError> {
        let listen = |source| GatewayError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        // Fails at startup, so that the operator corrects an invalid name or file before agents connect.
        let (tls, renew_at) = tls_config(&config, &parts)?;
        let (ingester, queue) = Ingester::new();
        let (tasks, beats) = (parts.tasks.clone(), BeatWriter::default());
        let shared = Arc::new(Shared {
            config,
            options,
            parts,
            beats,
            revocations: RevocationCounter::default(),
            ingester,
        });
        tasks.spawn(run_writers(Arc::clone(&shared), queue));
        shared.parts.sessions.set_served(true);
        tasks.spawn(async move {
            let served = serve(&shared, listener, local_addr, tls, renew_at).await;
            shared.parts.sessions.set_served(false);
            if let Err(error) = served {
                let error: &dyn std::error::Error = &error;
                tracing::error!(
                    error,
                    "the gateway failed; agents can't connect until the host is restarted"
                );
            }
        });
        Ok(Self { local_addr })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

async fn run_writers(shared: Arc<Shared>, queue: IngestQueue) {
    let (store, options, stop) = (shared.store(), &shared.options, &shared.parts.shutdown);
    tokio::join!(
        shared.beats.run(store, options.beat_flush_interval, stop),
        shared.revocations.run(store, options.beat_interval, stop),
        ingest::run(queue, store, stop),
    );
}

fn tls_config(
    config: &GatewayConfig,
    parts: &GatewayParts,
) -> Result<(ServerTlsConfig, Millis), CaError> {
    let identity = parts
        .authority
        .server_identity(&config.names, &*parts.clock)?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(
            &identity.certificate_pem,
            &identity.key_pem,
        ))
        .client_ca_root(Certificate::from_pem(parts.authority.certificate_pem()))
        .client_auth_optional(true)
        .timeout(HANDSHAKE_TIMEOUT);
    Ok((tls, identity.renew_at))
}

/// Serves until shutdown. When the certificate is due for renewal, a new server replaces the old one: open sessions end,
/// and their agents connect to the new server.
async fn serve(
    shared: &Arc<Shared>,
    first: TcpListener,
    address: SocketAddr,
    mut tls: ServerTlsConfig,
    mut renew_at: Millis,
) -> Result<(), GatewayError> {
    let shutdown = &shared.parts.shutdown;
    let mut listener = Some(first);
    loop {
        let bound = match listener.take() {
            Some(bound) => bound,
            None => TcpListener::bind(address)
                .await
                .map_err(|source| GatewayError::Listen { address, source })?,
        };
        let stop = shutdown.child_token();
        let watch = stop_when_due(shared, renew_at, &stop);
        let serving = serve_once(shared, bound, tls, &stop);
        let ((), served) = tokio::join!(watch, serving);
        served?;
        if shutdown.is_cancelled() {
            return Ok(());
        }
        (tls, renew_at) = tls_config(&shared.config, &shared.parts)?;
    }
}

async fn serve_once(
    shared: &Arc<Shared>,
    listener: TcpListener,
    tls: ServerTlsConfig,
    stop: &CancellationToken,
) -> Result<(), GatewayError> {
    let service = GatewayService {
        shared: Arc::clone(shared),
        stop: stop.clone(),
    };
    let service = AgentGatewayServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
        .accept_compressed(CompressionEncoding::Zstd)
        .send_compressed(CompressionEncoding::Zstd);
    let serving = Server::builder()
        .tls_config(tls)
        .map_err(GatewayError::Transport)?
        .timeout(CALL_TIMEOUT)
        .concurrency_limit_per_connection(STREAMS_PER_CONNECTION as usize)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled(),
        );
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(shared.options.stop_grace).await;
    };
    tokio::select! {
        served = serving => {
            // The server may have failed; nothing may wait for it any more.
            stop.cancel();
            served.map_err(GatewayError::Transport)
        }
        () = out_of_time => {
            tracing::warn!("dropped connections of agents that did not end in time");
            Ok(())
        }
    }
}

async fn stop_when_due(shared: &Shared, renew_at: Millis, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEWAL_CHECK_INTERVAL) => {}
        }
        if shared.now() >= renew_at {
            tracing::info!("renewing the gateway's certificate; agents connect again");
            stop.cancel();
        }
    }
}
