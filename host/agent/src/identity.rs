//! The agent's identity: its key, certificate and ids, and how it gets and renews them.
//!
//! The key never leaves the machine. One file contains the whole identity and is replaced atomically, so key and
//! certificate always match. The agent keeps the key of an enrolment until it has stored the answer, so that it retries an
//! interrupted enrolment with the same key.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_domain::time::Millis;
use proto::v1 as pb;
use proto::v1::agent_gateway_client::AgentGatewayClient;
use rcgen::{CertificateParams, KeyPair};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};
use tonic::{Code, Status};

use crate::config::{AgentConfig, AgentError};
use crate::layout::Layout;
use crate::{durable, facts, time};

/// How long the agent may take to connect to the gateway.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long the gateway may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How often the agent probes an idle connection, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);

/// The agent's identity, as the agent stores it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Identity {
    agent_id: String,
    machine_id: String,
    key_pem: String,
    certificate_pem: String,
    ca_pem: String,
    issued_at: Millis,
    not_after: Millis,
}

impl Identity {
    /// Reads the stored identity, or enrols and retries until the host answers.
    pub(crate) async fn load_or_enrol(
        config: &AgentConfig,
        layout: &Layout,
    ) -> Result<Self, AgentError> {
        let state = |source| AgentError::State {
            path: config.state_dir.clone(),
            source,
        };
        if let Some(identity) = durable::read_json(&layout.identity()).map_err(state)? {
            return Ok(identity);
        }
        let token = token(config)?;
        let ca_file = |source| AgentError::File {
            path: config.ca_file.clone(),
            source,
        };
        let ca_pem = std::fs::read_to_string(&config.ca_file).map_err(ca_file)?;
        let key = enrolment_key(layout, config)?;
        let mut attempt = 0;
        loop {
            match enrol(config, &ca_pem, &key, &token).await? {
                Ok(identity) => {
                    durable::write_json(&layout.identity(), &identity).map_err(state)?;
                    durable::remove(&layout.enrolment_key()).map_err(state)?;
                    tracing::info!(
                        agent.id = identity.agent_id,
                        machine.id = identity.machine_id,
                        "the agent is enrolled"
                    );
                    return Ok(identity);
                }
                Err(status) if is_final(&status) => {
                    return Err(AgentError::Refused(status.message().to_owned()));
                }
                Err(status) => tracing::warn!(
                    error = status.message(),
                    "the gateway is unreachable; the agent retries"
                ),
            }
            time::sleep(time::backoff(RETRY_BASE, RETRY_MAX, attempt)).await;
            attempt += 1;
        }
    }

    /// A channel with the agent's client certificate. It connects on first use.
    pub(crate) fn channel(&self, url: &str) -> Result<Channel, AgentError> {
        let own = TlsIdentity::from_pem(&self.certificate_pem, &self.key_pem);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .identity(own);
        Ok(endpoint(url, tls)?.connect_lazy())
    }

    /// When two thirds of the certificate's lifetime have passed.
    pub(crate) fn renew_at(&self) -> Millis {
        let life = self.not_after.since(self.issued_at);
        self.issued_at.plus(life * 2 / 3)
    }

    /// Gets a certificate for a new key and stores both.
    pub(crate) async fn renew(&self, channel: Channel, layout: &Layout) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let request = pb::RenewRequest {
            csr_der: signing_request(&key)?,
        };
        let mut client = AgentGatewayClient::new(channel);
        let answer = tokio::time::timeout(ANSWER_MAX, client.renew(request))
            .await??
            .into_inner();
        let renewed = Self {
            agent_id: self.agent_id.clone(),
            machine_id: self.machine_id.clone(),
            key_pem: key.serialize_pem(),
            certificate_pem: certificate_pem(&answer.certificate_der),
            ca_pem: certificate_pem(&answer.ca_der),
            issued_at: time::now(),
            not_after: Millis(answer.not_after_ms),
        };
        durable::write_json(&layout.identity(), &renewed)?;
        Ok(renewed)
    }
}

/// One attempt. A retry can't fix the outer error.
async fn enrol(
    config: &AgentConfig,
    ca_pem: &str,
    key: &KeyPair,
    token: &SecretString,
) -> Result<Result<Identity, Status>, AgentError> {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
    let channel = endpoint(&config.gateway_url, tls)?.connect_lazy();
    let request = pb::EnrollRequest {
        token: token.expose_secret().to_owned(),
        csr_der: signing_request(key).map_err(AgentError::Key)?,
        facts: Some(facts::agent_facts(&config.name)),
    };
    let mut client = AgentGatewayClient::new(channel);
    let answer = tokio::time::timeout(ANSWER_MAX, client.enroll(request)).await;
    let answer = answer.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(
            "the gateway did not answer in time",
        ))
    });
    Ok(answer.map(|answer| {
        let answer = answer.into_inner();
        Identity {
            agent_id: answer.agent_id,
            machine_id: answer.machine_id,
            key_pem: key.serialize_pem(),
            certificate_pem: certificate_pem(&answer.certificate_der),
            ca_pem: certificate_pem(&answer.ca_der),
            issued_at: time::now(),
            not_after: Millis(answer.not_after_ms),
        }
    }))
}

fn endpoint(url: &str, tls: ClientTlsConfig) -> Result<Endpoint, AgentError> {
    let failed = |source| AgentError::Gateway {
        url: url.to_owned(),
        source,
    };
    Ok(Endpoint::from_shared(url.to_owned())
        .map_err(failed)?
        .tls_config(tls)
        .map_err(failed)?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// Whether the host refused the request, as opposed to being unavailable or busy.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Unimplemented
    )
}

fn token(config: &AgentConfig) -> Result<SecretString, AgentError> {
    if let Some(token) = &config.enrolment_token {
        return Ok(token.clone());
    }
    let path = config.token_file.as_ref().ok_or(AgentError::NoToken)?;
    let text = std::fs::read_to_string(path).map_err(|source| AgentError::File {
        path: path.clone(),
        source,
    })?;
    match text.trim() {
        "" => Err(AgentError::NoToken),
        token => Ok(SecretString::from(token)),
    }
}

fn enrolment_key(layout: &Layout, config: &AgentConfig) -> Result<KeyPair, AgentError> {
    let state = |source| AgentError::State {
        path: config.state_dir.clone(),
        source,
    };
    if let Some(pem) = durable::read(&layout.enrolment_key()).map_err(state)?
        && let Ok(key) = KeyPair::from_pem(&String::from_utf8_lossy(&pem))
    {
        return Ok(key);
    }
    let key = KeyPair::generate().map_err(AgentError::Key)?;
    durable::write(&layout.enrolment_key(), key.serialize_pem().as_bytes()).map_err(state)?;
    Ok(key)
}

/// The host chooses the subject. The request only proves that the agent has the key.
fn signing_request(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let request = CertificateParams::default().serialize_request(key)?;
    Ok(request.der().as_ref().to_vec())
}

fn certificate_pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        // Base64 is ASCII, so the conversion is exact.
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_written_as_pem() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let expected = certificate.pem().replace("\r\n", "\n");
        assert_eq!(certificate_pem(certificate.der()), expected);
    }

    #[test]
    fn renewal_is_due_at_two_thirds() {
        let identity = Identity {
            agent_id: String::new(),
            machine_id: String::new(),
            key_pem: String::new(),
            certificate_pem: String::new(),
            ca_pem: String::new(),
            issued_at: Millis(1_000),
            not_after: Millis(4_000),
        };
        assert_eq!(identity.renew_at(), Millis(3_000));
    }
}
