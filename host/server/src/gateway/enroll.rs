//! How an agent joins and stays: a one-time token buys the first certificate, each certificate the next.
//!
//! The token is used up in the transaction that makes the agent's row, so it buys exactly one certificate. When the answer
//! is lost on its way, the token is gone all the same and the operator issues another; the agent that was made for the
//! lost answer is revoked with the next enrolment of the host, as is every older agent of it: a host has one.

use host_domain::agent::{Agent, TokenRefused};
use host_domain::ids::AgentId;
use host_domain::time::Millis;
use proto::v1;
use sha2::{Digest, Sha256};
use tonic::Status;
use uuid::Uuid;

use super::ca::{CaError, IssuedCertificate};
use super::convert;
use super::peer::{Peer, refused, revoked, store_status};
use super::server::Shared;
use host_store::{AuditEntry, StoreError, Tx, retried};

const TOKEN_BYTES_MAX: usize = 512;
/// A host has one agent; more than a few come from a mended database only.
const REPLACED_MAX: usize = 16;

enum EnrolError {
    Token(TokenRefused),
    Certificate(CaError),
    Store(StoreError),
}

impl From<StoreError> for EnrolError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Turns a one-time token and a signing request into a certificate.
pub(super) async fn enroll(
    shared: &Shared,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, Status> {
    match try_enroll(shared, request).await {
        Ok(response) => Ok(response),
        Err(EnrolError::Token(reason)) => {
            tracing::warn!(%reason, "an enrolment was refused");
            Err(refused("enrolment_token", &reason.to_string()))
        }
        Err(EnrolError::Certificate(error)) => Err(certificate_status(&error)),
        Err(EnrolError::Store(error)) => Err(store_status(&error)),
    }
}

async fn try_enroll(
    shared: &Shared,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, EnrolError> {
    if request.token.len() > TOKEN_BYTES_MAX {
        return Err(EnrolError::Token(TokenRefused::Foreign));
    }
    let now = shared.now();
    let hash = hex::encode(Sha256::digest(request.token.as_bytes()));
    let token = shared.parts.db.enrolment_token(&hash).await?;
    let token = token.ok_or(EnrolError::Token(TokenRefused::Foreign))?;
    token.check(now).map_err(EnrolError::Token)?;

    // Signed before the token is used: a request that can't be signed must not cost the token.
    let id = AgentId(Uuid::now_v7());
    let authority = &shared.parts.authority;
    let issued = authority
        .sign_agent(&request.csr_der, id, now)
        .map_err(EnrolError::Certificate)?;
    let facts = request.facts.unwrap_or_default();
    let agent = Agent {
        id,
        machine_id: token.machine_id,
        name: convert::label(facts.name),
        version: convert::label(facts.version),
        certificate_not_after: issued.not_after,
        last_seen_at: None,
        revoked_at: None,
        created_at: now,
    };
    let mut tx = shared.parts.db.begin().await?;
    if !tx.use_enrolment_token(&hash, now).await? {
        // Somebody was faster since the look above: used, or taken back.
        let token = tx.enrolment_token(&hash).await?;
        let reason = token.map_or(Err(TokenRefused::Foreign), |token| token.check(now));
        return Err(EnrolError::Token(
            reason.err().unwrap_or(TokenRefused::Used),
        ));
    }
    let replaced = replace_agents(&mut tx, &agent).await?;
    tx.commit().await?;
    for older in replaced {
        shared.parts.sessions.cut_off(older);
    }
    tracing::info!(agent.id = %id, host.id = %agent.machine_id, "an agent enrolled");
    Ok(v1::EnrollResponse {
        agent_id: id.to_string(),
        machine_id: agent.machine_id.to_string(),
        certificate_der: issued.der,
        ca_der: authority.certificate_der().to_vec(),
        not_after_ms: issued.not_after.0,
    })
}

/// Makes the agent the only one of its host. What waits for its predecessor is its to do.
async fn replace_agents(tx: &mut Tx, agent: &Agent) -> Result<Vec<AgentId>, StoreError> {
    let now = agent.created_at;
    let mut replaced = Vec::new();
    while replaced.len() < REPLACED_MAX
        && let Some(older) = tx.agent_of_machine(agent.machine_id).await?
    {
        tx.revoke_agent(older.id, now).await?;
        replaced.push(older.id);
    }
    tx.insert_agent(agent).await?;
    for older in &replaced {
        tx.hand_over_commands(*older, agent.id, now).await?;
        tx.append_audit(&act(now, agent.id, "agent.replace", *older))
            .await?;
    }
    tx.append_audit(&act(now, agent.id, "agent.enrol", agent.id))
        .await?;
    Ok(replaced)
}

/// Gives an agent its next certificate.
pub(super) async fn renew(
    shared: &Shared,
    peer: &Peer,
    request: v1::RenewRequest,
) -> Result<v1::RenewResponse, Status> {
    let (id, now) = (peer.agent.id, shared.now());
    let authority = &shared.parts.authority;
    let issued: IssuedCertificate = authority
        .sign_agent(&request.csr_der, id, now)
        .map_err(|error| certificate_status(&error))?;
    let keep = || async {
        let mut tx = shared.parts.db.begin().await?;
        let is_kept = tx.renew_agent(id, issued.not_after).await?;
        tx.append_audit(&act(now, id, "agent.renew", id)).await?;
        tx.commit().await?;
        Ok::<bool, StoreError>(is_kept)
    };
    if !retried(keep).await.map_err(|error| store_status(&error))? {
        return Err(revoked());
    }
    Ok(v1::RenewResponse {
        certificate_der: issued.der,
        ca_der: authority.certificate_der().to_vec(),
        not_after_ms: issued.not_after.0,
    })
}

fn act(at: Millis, actor: AgentId, action: &str, target: AgentId) -> AuditEntry {
    AuditEntry {
        seq: 0,
        at,
        actor: format!("agent:{actor}"),
        action: action.to_owned(),
        target: target.to_string(),
        details: serde_json::Value::Null,
    }
}

fn certificate_status(error: &CaError) -> Status {
    if let CaError::BadRequest(reason) = error {
        return Status::invalid_argument(format!("{error}: {reason}"));
    }
    let source: &dyn std::error::Error = error;
    tracing::error!(error = source, "a certificate could not be signed");
    Status::internal("the host could not sign the certificate; its log says why")
}
