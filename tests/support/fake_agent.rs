//! An agent that does what a test tells it, over real TCP and TLS.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use host_domain::ids::{AgentId, CommandId, NodeId};
use proto::v1;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use proto::v1::agent_message::Message as Say;
use proto::v1::host_message::Message as Hear;
use rcgen::{CertificateParams, KeyPair};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status, Streaming};

/// Nothing that a test waits for takes longer; it only bounds a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct FakeAgent {
    pub(crate) id: AgentId,
    gateway: SocketAddr,
    ca_pem: String,
    certificate_pem: String,
    key: KeyPair,
}

/// An open session, after hello and welcome.
pub(crate) struct Session {
    to_host: mpsc::Sender<v1::AgentMessage>,
    from_host: Streaming<v1::HostMessage>,
}

impl FakeAgent {
    pub(crate) async fn enrol(
        gateway: SocketAddr,
        ca_pem: &str,
        token: &str,
    ) -> Result<Self, Status> {
        let key = KeyPair::generate().unwrap();
        let request = v1::EnrollRequest {
            token: token.to_owned(),
            csr_der: csr(&key),
            facts: Some(v1::AgentFacts {
                name: "fake".to_owned(),
                ..v1::AgentFacts::default()
            }),
        };
        let mut client = AgentGatewayClient::new(channel(gateway, ca_pem, None));
        let answer = client.enroll(request).await?.into_inner();
        Ok(Self {
            id: answer.agent_id.parse().unwrap(),
            gateway,
            ca_pem: ca_pem.to_owned(),
            certificate_pem: pem(&answer.certificate_der),
            key,
        })
    }

    /// Shows another certificate for the same key from now on.
    pub(crate) fn show(&mut self, certificate_der: &[u8]) {
        self.certificate_pem = pem(certificate_der);
    }

    pub(crate) fn csr(&self) -> Vec<u8> {
        csr(&self.key)
    }

    pub(crate) fn client(&self) -> AgentGatewayClient<Channel> {
        let own = Identity::from_pem(&self.certificate_pem, self.key.serialize_pem());
        AgentGatewayClient::new(channel(self.gateway, &self.ca_pem, Some(own)))
    }

    /// Opens a session and says hello; the answer is checked to be a welcome.
    pub(crate) async fn connect(&self) -> Result<Session, Status> {
        let (to_host, messages) = mpsc::channel(16);
        let mut client = self.client();
        let opened = client.connect(ReceiverStream::new(messages));
        let from_host = within("the session", opened).await?.into_inner();
        let mut session = Session { to_host, from_host };
        let facts = v1::AgentFacts {
            version: "9.9.9".to_owned(),
            ..v1::AgentFacts::default()
        };
        session
            .say(Say::Hello(v1::Hello {
                facts: Some(facts),
                running_command_ids: vec![],
            }))
            .await;
        match session.hear().await? {
            Hear::Welcome(_) => Ok(session),
            other => panic!("not a welcome: {other:?}"),
        }
    }
}

impl Session {
    pub(crate) async fn say(&self, message: Say) {
        let message = v1::AgentMessage {
            message: Some(message),
        };
        // A session that the host has ended takes nothing more; what it then answers is what a test looks at.
        let _ended = within("the host to read", self.to_host.send(message)).await;
    }

    /// The next message. The end of the stream is an error of code `Ok`.
    pub(crate) async fn hear(&mut self) -> Result<Hear, Status> {
        match within("a message", self.from_host.message()).await? {
            Some(message) => Ok(message.message.unwrap()),
            None => Err(Status::new(Code::Ok, "ended")),
        }
    }

    /// The next message that is not about assignments.
    pub(crate) async fn hear_else(&mut self) -> Hear {
        loop {
            match self.hear().await.unwrap() {
                Hear::Assignments(_) => {}
                other => return other,
            }
        }
    }

    pub(crate) async fn hear_command(&mut self) -> CommandId {
        match self.hear_else().await {
            Hear::Command(command) => command.id.parse().unwrap(),
            other => panic!("not a command: {other:?}"),
        }
    }

    pub(crate) async fn hear_assignments(&mut self) -> v1::Assignments {
        loop {
            if let Hear::Assignments(assignments) = self.hear().await.unwrap() {
                return assignments;
            }
        }
    }

    /// How the session ends; what comes before is left out.
    pub(crate) async fn end(mut self) -> Status {
        loop {
            if let Err(status) = self.hear().await {
                return status;
            }
        }
    }

    pub(crate) async fn beat(&self, nodes: &[NodeId]) {
        self.say(Say::Beat(beat(nodes))).await;
    }

    pub(crate) async fn accept(&self, id: CommandId) {
        self.say(Say::Accepted(v1::CommandAccepted {
            command_id: id.to_string(),
        }))
        .await;
    }

    pub(crate) async fn succeed(&self, id: CommandId) {
        self.result(id, v1::command_result::Outcome::Succeeded)
            .await;
    }

    pub(crate) async fn result(&self, id: CommandId, outcome: v1::command_result::Outcome) {
        let result = v1::CommandResult {
            command_id: id.to_string(),
            outcome: outcome.into(),
            ..v1::CommandResult::default()
        };
        self.say(Say::Result(result)).await;
    }

    /// The id of a stored result.
    pub(crate) async fn hear_result_stored(&mut self) -> CommandId {
        match self.hear_else().await {
            Hear::ResultStored(stored) => stored.command_id.parse().unwrap(),
            other => panic!("not a stored result: {other:?}"),
        }
    }

    /// The number of a stored batch.
    pub(crate) async fn hear_stored(&mut self) -> u64 {
        match self.hear_else().await {
            Hear::ObservationsStored(stored) => stored.sequence,
            other => panic!("not stored observations: {other:?}"),
        }
    }
}

/// A beat in which each node's one process runs.
pub(crate) fn beat(nodes: &[NodeId]) -> v1::Beat {
    let process = v1::ProcessStatus {
        name: "node".to_owned(),
        state: v1::process_status::State::Running.into(),
        pid: 7,
        restarts: 0,
        started_at_ms: 1,
    };
    let status = |id: &NodeId| v1::NodeStatus {
        node_id: id.to_string(),
        processes: vec![process.clone()],
    };
    v1::Beat {
        at_ms: 1,
        nodes: nodes.iter().map(status).collect(),
        load: None,
        sequence: 1,
    }
}

/// A connection that shows no certificate, or the given one.
pub(crate) fn channel(gateway: SocketAddr, ca_pem: &str, own: Option<Identity>) -> Channel {
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
    if let Some(own) = own {
        tls = tls.identity(own);
    }
    let endpoint = Endpoint::from_shared(format!("https://{gateway}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect_lazy()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(tokio::time::error::Elapsed { .. }) => {
            panic!("{what} did not come within {PATIENCE:?}")
        }
    }
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default()
        .serialize_request(key)
        .unwrap()
        .der()
        .to_vec()
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
