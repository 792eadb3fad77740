//! The gRPC server: who may call, what bounds a call, and an end that waits for what is open.
//!
//! One port serves enrolment (without a certificate) and everything else (with one), so TLS asks for a client certificate
//! and does not insist; [`authorize`] insists where it must.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Millis;
use proto::v1;
use proto::v1::agent_gateway_server::{AgentGateway, AgentGatewayServer};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::beats::BeatWriter;
use super::ca::CaError;
use super::hub::NoSeat;
use super::ingest::{self, IngestQueue, Ingester};
use super::peer::authorize;
use super::standing::Standing;
use super::{GatewayConfig, GatewayParts, components, delivery, enroll, inbound, keys, session};

/// The most that one message may have, in either direction.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
const STREAMS_PER_CONNECTION: u32 = 32;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often a running gateway looks whether its own certificate should be replaced.
const CERTIFICATE_LOOK: Duration = Duration::from_hours(1);
const OUTGOING: usize = 64;

/// Why the gateway can't run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The address is taken or not this machine's.
    #[error(
        "the gateway can't listen on {address}; free it, or set `gateway.listen`, or `--gateway` of `dev`, to another"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The gateway has no certificate.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// TLS or the server could not be set up.
    #[error("the gateway could not be set up")]
    Transport(#[source] tonic::transport::Error),
}

/// A running gateway. It ends with the shutdown token that it was given.
pub struct Gateway {
    local_addr: SocketAddr,
}

/// What every call works with.
pub(super) struct Shared {
    pub(super) config: GatewayConfig,
    pub(super) parts: GatewayParts,
    pub(super) beats: BeatWriter,
    pub(super) standing: Standing,
    pub(super) ingester: Ingester,
}

impl Shared {
    pub(super) fn now(&self) -> Millis {
        self.parts.clock.now()
    }
}

impl Gateway {
    /// Listens and serves in tasks of the given tracker, until the shutdown token is cancelled.
    pub async fn start(config: GatewayConfig, parts: GatewayParts) -> Result<Self, GatewayError> {
        let listen = |source| GatewayError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        // Both fail now or never: a bad name or file is the operator's to mend before agents come.
        let (tls, renew_at) = tls_config(&config, &parts)?;
        let (ingester, queue) = Ingester::new();
        let (tasks, beats) = (parts.tasks.clone(), BeatWriter::default());
        let shared = Arc::new(Shared {
            config,
            parts,
            beats,
            standing: Standing::default(),
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
                    "the gateway ended; agents can't connect until the host is started again"
                );
            }
        });
        Ok(Self { local_addr })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

async fn run_writers(shared: Arc<Shared>, queue: IngestQueue) {
    let parts = &shared.parts;
    tokio::join!(
        shared.beats.run(
            &parts.db,
            shared.config.beat_flush_interval,
            &parts.shutdown
        ),
        shared
            .standing
            .run(&parts.db, shared.config.beat_interval, &parts.shutdown),
        ingest::run(queue, &parts.db, &parts.observations, &parts.shutdown),
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

/// Serves until shutdown. When the gateway's own certificate is due, the server is replaced: open sessions end and their
/// agents come back to the new one.
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
    let agents = Agents {
        shared: Arc::clone(shared),
        stop: stop.clone(),
    };
    let service = AgentGatewayServer::new(agents)
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
        tokio::time::sleep(shared.config.stop_grace).await;
    };
    tokio::select! {
        served = serving => {
            // Also when the server ended by itself, nothing may wait for it any more.
            stop.cancel();
            served.map_err(GatewayError::Transport)
        }
        () = out_of_time => {
            tracing::warn!("agents' connections did not end in time and were dropped");
            Ok(())
        }
    }
}

async fn stop_when_due(shared: &Shared, renew_at: Millis, stop: &CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(CERTIFICATE_LOOK) => {}
        }
        if shared.now() >= renew_at {
            tracing::info!("the gateway's certificate is replaced; agents connect anew");
            stop.cancel();
        }
    }
}

/// The service: each call finds out who asks and hands on.
struct Agents {
    shared: Arc<Shared>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl AgentGateway for Agents {
    type ConnectStream = ReceiverStream<Result<v1::HostMessage, Status>>;
    type FetchComponentStream = ReceiverStream<Result<v1::ComponentChunk, Status>>;

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        enroll::enroll(&self.shared, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewResponse>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        enroll::renew(&self.shared, &peer, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        let parts = &self.shared.parts;
        let seat = parts.sessions.sit(peer.agent.id, self.shared.config.sessions_max).map_err(
            |no_seat| match no_seat {
                NoSeat::Full => Status::resource_exhausted(
                    "this host serves as many agents as it may; raise `gateway.sessions_max` or add a gateway",
                ),
                NoSeat::Draining => session::stopping(),
            },
        )?;
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        // The answer's head goes out before the first message is read: an agent may wait for the one to send the other.
        parts.tasks.spawn(session::run(
            Arc::clone(&self.shared),
            peer,
            seat,
            session::Wires {
                incoming: request.into_inner(),
                outgoing,
            },
            self.stop.clone(),
        ));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        if let Some(beat) = request.into_inner().beat {
            inbound::single_beat(&self.shared, &peer.agent, beat).await?;
        }
        let commands = delivery::take_pending(&self.shared, peer.agent.id).await?;
        Ok(Response::new(v1::HeartbeatResponse { commands }))
    }

    async fn fetch_component(
        &self,
        request: Request<v1::FetchComponentRequest>,
    ) -> Result<Response<Self::FetchComponentStream>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        let chunks =
            components::fetch(&self.shared, peer.agent.id, &request.into_inner().digest).await?;
        Ok(Response::new(chunks))
    }

    async fn fetch_key(
        &self,
        request: Request<v1::FetchKeyRequest>,
    ) -> Result<Response<v1::KeyMaterial>, Status> {
        let peer = authorize(&self.shared, &request).await?;
        keys::fetch(&self.shared, &peer.agent, &request.into_inner())
            .await
            .map(Response::new)
    }
}
