//! Enrols agents: a one-time token pays for the first certificate, each certificate for the next one.
//!
//! The transaction that stores the agent also uses up the token, so a token yields exactly one certificate. If the answer
//! is lost, the token is used all the same, and the operator issues another. The machine's next enrolment then revokes
//! the agent of the lost answer, as it revokes every older agent: a machine has one agent.

use host_domain::agent::{Agent, TokenRefused};
use host_domain::ids::AgentId;
use proto::v1;
use sha2::{Digest, Sha256};
use tonic::Status;
use uuid::Uuid;

use crate::ca::CaError;
use crate::convert;
use crate::peer::{Peer, refused, revoked, store_status};
use crate::shared::Shared;
use crate::store::{EnrolOutcome, GatewayStoreError};

const TOKEN_BYTES_MAX: usize = 512;

enum EnrolError {
    Token(TokenRefused),
    Certificate(CaError),
    Store(GatewayStoreError),
}

impl From<GatewayStoreError> for EnrolError {
    fn from(error: GatewayStoreError) -> Self {
        Self::Store(error)
    }
}

/// Turns a one-time token and a signing request into a certificate.
pub(crate) async fn enrol(
    shared: &Shared,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, Status> {
    match try_enrol(shared, request).await {
        Ok(response) => Ok(response),
        Err(EnrolError::Token(reason)) => {
            tracing::warn!(%reason, "refused an enrolment");
            Err(refused("enrolment_token", &reason.to_string()))
        }
        Err(EnrolError::Certificate(error)) => Err(certificate_status(&error)),
        Err(EnrolError::Store(error)) => Err(store_status(&error)),
    }
}

async fn try_enrol(
    shared: &Shared,
    request: v1::EnrollRequest,
) -> Result<v1::EnrollResponse, EnrolError> {
    if request.token.len() > TOKEN_BYTES_MAX {
        return Err(EnrolError::Token(TokenRefused::Foreign));
    }
    let now = shared.now();
    let hash = hex::encode(Sha256::digest(request.token.as_bytes()));
    let token = shared.store().enrolment_token(&hash).await?;
    let token = token.ok_or(EnrolError::Token(TokenRefused::Foreign))?;
    token.check(now).map_err(EnrolError::Token)?;

    // Signs before the token is used: an invalid request must not cost the token.
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
    match shared.store().enrol_agent(&hash, &agent).await? {
        EnrolOutcome::Refused(reason) => return Err(EnrolError::Token(reason)),
        EnrolOutcome::Enrolled { revoked } => {
            for older in revoked {
                shared.parts.sessions.disconnect(older);
            }
        }
    }
    tracing::info!(agent.id = %id, machine.id = %agent.machine_id, "an agent enrolled");
    Ok(v1::EnrollResponse {
        agent_id: id.to_string(),
        machine_id: agent.machine_id.to_string(),
        certificate_der: issued.der,
        ca_der: authority.certificate_der().to_vec(),
        not_after_ms: issued.not_after.0,
    })
}

/// Gives an agent its next certificate.
pub(crate) async fn renew(
    shared: &Shared,
    peer: &Peer,
    request: v1::RenewRequest,
) -> Result<v1::RenewResponse, Status> {
    let (id, now) = (peer.agent.id, shared.now());
    let authority = &shared.parts.authority;
    let issued = authority
        .sign_agent(&request.csr_der, id, now)
        .map_err(|error| certificate_status(&error))?;
    let is_renewed = shared.store().renew_agent(id, issued.not_after, now).await;
    if !is_renewed.map_err(|error| store_status(&error))? {
        return Err(revoked());
    }
    Ok(v1::RenewResponse {
        certificate_der: issued.der,
        ca_der: authority.certificate_der().to_vec(),
        not_after_ms: issued.not_after.0,
    })
}

fn certificate_status(error: &CaError) -> Status {
    if let CaError::BadRequest(reason) = error {
        return Status::invalid_argument(format!("{error}: {reason}"));
    }
    let source: &dyn std::error::Error = error;
    tracing::error!(error = source, "can't sign a certificate");
    Status::internal("the host can't sign the certificate; its log has the cause")
}
