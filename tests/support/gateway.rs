//! A gateway that a test scripts: real gRPC over real mTLS, with an authority of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::v1 as pb;
use proto::v1::agent_gateway_server::{AgentGateway, AgentGatewayServer};
use proto::v1::agent_message::Message as Out;
use proto::v1::command_result::Outcome;
use proto::v1::host_message::Message as In;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::wait::until;

/// The token that the gateway takes, any number of times.
pub(crate) const TOKEN: &str = "one-time-token";

type ToAgent = mpsc::Sender<Result<pb::HostMessage, Status>>;

/// What came from the agent, and how the gateway answers.
#[derive(Default)]
struct State {
    received: Vec<Out>,
    session: Option<ToAgent>,
    n_sessions: usize,
    /// Answers are left out.
    is_deaf: bool,
    /// How long processes with keys may run after an answer. The gateway confirms no beats when this is zero.
    lease: Duration,
    /// How long certificates live.
    life: Option<Duration>,
    components: BTreeMap<String, Vec<u8>>,
    peers: BTreeSet<Vec<u8>>,
    /// The key `late` was asked for.
    is_late_asked: bool,
}

/// The running gateway; it ends with the test's runtime.
pub(crate) struct TestGateway {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl TestGateway {
    /// Starts it, with the authority in `folder/ca.pem`.
    pub(crate) async fn start(folder: &Path) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let authority = Authority::new();
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let own = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &authority.issuer)
            .unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(own.pem(), key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(&authority.pem))
            .client_auth_optional(true);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let service = AgentGatewayServer::new(Service {
            authority,
            state: Arc::clone(&state),
        });
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, state }
    }

    /// Says something to the agent, once it is there.
    pub(crate) async fn send(&self, message: In) {
        let session = until("a session", || {
            self.state.lock().unwrap().session.clone().ok_or(())
        })
        .await;
        session
            .send(Ok(pb::HostMessage {
                message: Some(message),
            }))
            .await
            .unwrap();
    }

    /// Everything that came, oldest first.
    pub(crate) fn received(&self) -> Vec<Out> {
        self.state.lock().unwrap().received.clone()
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        self.state.lock().unwrap().received.clear();
    }

    /// Waits for a message.
    pub(crate) async fn wait<T>(&self, what: &str, pick: impl Fn(&Out) -> Option<T>) -> T {
        until(what, || {
            let received = self.received();
            let beats = |message: &&Out| !matches!(message, Out::Beat(_));
            received.iter().rev().find_map(&pick).ok_or_else(|| {
                received
                    .iter()
                    .filter(beats)
                    .rev()
                    .take(10)
                    .cloned()
                    .collect::<Vec<_>>()
            })
        })
        .await
    }

    /// Waits for the result of a command.
    pub(crate) async fn result(&self, id: &str) -> pb::CommandResult {
        self.wait("the result of a command", |message| match message {
            Out::Result(result) if result.command_id == id => Some(result.clone()),
            _ => None,
        })
        .await
    }

    /// Gives a command and waits for its result.
    pub(crate) async fn run(&self, command: pb::Command) -> pb::CommandResult {
        let id = command.id.clone();
        self.send(In::Command(command)).await;
        self.result(&id).await
    }

    /// As [`Self::run`], and it must succeed.
    pub(crate) async fn run_well(&self, command: pb::Command) -> pb::CommandResult {
        let result = self.run(command).await;
        assert_eq!(result.outcome(), Outcome::Succeeded, "{result:#?}");
        result
    }

    /// The kinds of the events that came, each event once, in their order.
    pub(crate) fn event_kinds(&self) -> Vec<String> {
        let mut events = BTreeMap::new();
        for message in self.received() {
            if let Out::Events(batch) = message {
                events.extend(batch.events.into_iter().map(|event| (event.id, event.kind)));
            }
        }
        events.into_values().collect()
    }

    /// Whether the gateway leaves out its answers.
    pub(crate) fn set_deaf(&self, is_deaf: bool) {
        self.state.lock().unwrap().is_deaf = is_deaf;
    }

    /// How long processes with keys may run after each answer from now on.
    pub(crate) fn set_lease(&self, lease: Duration) {
        self.state.lock().unwrap().lease = lease;
    }

    /// How long the next certificates live.
    pub(crate) fn set_life(&self, life: Duration) {
        self.state.lock().unwrap().life = Some(life);
    }

    /// Ends the session from this side.
    pub(crate) fn hang_up(&self) {
        self.state.lock().unwrap().session = None;
    }

    /// How many sessions there were.
    pub(crate) fn n_sessions(&self) -> usize {
        self.state.lock().unwrap().n_sessions
    }

    /// The different certificates that sessions were begun with.
    pub(crate) fn n_peers(&self) -> usize {
        self.state.lock().unwrap().peers.len()
    }

    /// Lets the agent fetch a component.
    pub(crate) fn offer_component(&self, digest: &str, bytes: Vec<u8>) {
        self.state
            .lock()
            .unwrap()
            .components
            .insert(digest.to_owned(), bytes);
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Self {
            issuer: Issuer::new(params, key),
            pem,
            der,
        }
    }

    fn sign(&self, csr_der: &[u8], agent_id: &str, life: Duration) -> (Vec<u8>, i64) {
        let mut csr = CertificateSigningRequestParams::from_der(&csr_der.into()).unwrap();
        csr.params
            .distinguished_name
            .push(DnType::CommonName, agent_id);
        let der = csr.signed_by(&self.issuer).unwrap().der().to_vec();
        // Only what the agent is told shortens its life; the certificate itself stays good.
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + life;
        (der, i64::try_from(end.as_millis()).unwrap())
    }
}

struct Service {
    authority: Authority,
    state: Arc<Mutex<State>>,
}

impl Service {
    fn life(&self) -> Duration {
        self.state
            .lock()
            .unwrap()
            .life
            .unwrap_or(Duration::from_hours(720))
    }
}

fn peer<T>(request: &Request<T>) -> Result<Vec<u8>, Status> {
    let peers = request
        .peer_certs()
        .ok_or_else(|| Status::unauthenticated("no certificate"))?;
    Ok(peers[0].to_vec())
}

#[tonic::async_trait]
impl AgentGateway for Service {
    async fn enroll(
        &self,
        request: Request<pb::EnrollRequest>,
    ) -> Result<Response<pb::EnrollResponse>, Status> {
        let request = request.into_inner();
        if request.token != TOKEN {
            return Err(Status::permission_denied("the token is not known"));
        }
        let agent_id = uuid::Uuid::now_v7().to_string();
        let (certificate_der, not_after_ms) =
            self.authority
                .sign(&request.csr_der, &agent_id, self.life());
        Ok(Response::new(pb::EnrollResponse {
            agent_id,
            machine_id: uuid::Uuid::now_v7().to_string(),
            certificate_der,
            ca_der: self.authority.der.clone(),
            not_after_ms,
        }))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        peer(&request)?;
        let (certificate_der, not_after_ms) = self.authority.sign(
            &request.into_inner().csr_der,
            "renewed",
            Duration::from_hours(720),
        );
        let ca_der = self.authority.der.clone();
        Ok(Response::new(pb::RenewResponse {
            certificate_der,
            ca_der,
            not_after_ms,
        }))
    }

    type ConnectStream = ReceiverStream<Result<pb::HostMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let peer = peer(&request)?;
        let (to_agent, messages) = mpsc::channel(64);
        let welcome = In::Welcome(pb::Welcome {
            beat_interval_ms: 100,
            now_ms: 0,
        });
        to_agent
            .send(Ok(pb::HostMessage {
                message: Some(welcome),
            }))
            .await
            .unwrap();
        {
            let mut state = self.state.lock().unwrap();
            state.session = Some(to_agent);
            state.n_sessions += 1;
            state.peers.insert(peer);
        }
        tokio::spawn(listen(request.into_inner(), Arc::clone(&self.state)));
        Ok(Response::new(ReceiverStream::new(messages)))
    }

    async fn heartbeat(
        &self,
        _: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        Err(Status::unimplemented("agents use the session"))
    }

    type FetchComponentStream = ReceiverStream<Result<pb::ComponentChunk, Status>>;

    async fn fetch_component(
        &self,
        request: Request<pb::FetchComponentRequest>,
    ) -> Result<Response<Self::FetchComponentStream>, Status> {
        peer(&request)?;
        let digest = request.into_inner().digest;
        let known = self.state.lock().unwrap().components.get(&digest).cloned();
        let bytes = known.ok_or_else(|| Status::not_found("no such component"))?;
        let (to_agent, chunks) = mpsc::channel(4);
        tokio::spawn(async move {
            for chunk in bytes.chunks(64 * 1024) {
                let chunk = pb::ComponentChunk {
                    data: chunk.to_vec(),
                };
                if to_agent.send(Ok(chunk)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(chunks)))
    }

    /// A node's key is the bytes of its name, of which `none` has none; for `late` the host is away at first.
    async fn fetch_key(
        &self,
        request: Request<pb::FetchKeyRequest>,
    ) -> Result<Response<pb::KeyMaterial>, Status> {
        peer(&request)?;
        let name = request.into_inner().name;
        if name == "none" {
            return Err(Status::permission_denied(
                "no node of this agent has such a key",
            ));
        }
        if name == "late" && !std::mem::replace(&mut self.state.lock().unwrap().is_late_asked, true)
        {
            return Err(Status::unavailable("tcp connect error"));
        }
        let material = name.into_bytes();
        let lease = self.state.lock().unwrap().lease;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap();
        Ok(Response::new(pb::KeyMaterial { material, lease_ms }))
    }
}

async fn listen(mut from: Streaming<pb::AgentMessage>, state: Arc<Mutex<State>>) {
    while let Ok(Some(pb::AgentMessage {
        message: Some(message),
    })) = from.message().await
    {
        let answer = {
            let mut state = state.lock().unwrap();
            state.received.push(message.clone());
            state
                .session
                .clone()
                .filter(|_| !state.is_deaf)
                .zip(answer(message, state.lease))
        };
        if let Some((session, answer)) = answer {
            let _ = session
                .send(Ok(pb::HostMessage {
                    message: Some(answer),
                }))
                .await;
        }
    }
}

fn answer(message: Out, lease: Duration) -> Option<In> {
    match message {
        Out::Beat(beat) if !lease.is_zero() => Some(In::BeatConfirmed(pb::BeatConfirmed {
            sequence: beat.sequence,
            lease_ms: u64::try_from(lease.as_millis()).unwrap(),
            node_ids: beat.nodes.into_iter().map(|node| node.node_id).collect(),
        })),
        Out::Result(result) => Some(In::ResultStored(pb::ResultStored {
            command_id: result.command_id,
        })),
        Out::Observations(batch) => Some(In::ObservationsStored(pb::ObservationsStored {
            sequence: batch.sequence,
        })),
        Out::Events(batch) => {
            let ids = batch.events.into_iter().map(|event| event.id).collect();
            Some(In::EventsStored(pb::EventsStored { ids }))
        }
        Out::Hello(_) | Out::Beat(_) | Out::Accepted(_) | Out::Progress(_) | Out::Component(_) => {
            None
        }
    }
}
