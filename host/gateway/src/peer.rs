//! Authenticates the caller of each call.
//!
//! The certificate names the agent, the agent's row says whether it is revoked, and the injected clock says whether the
//! certificate has expired. TLS has verified that our authority signed it.

use host_domain::agent::Agent;
use host_domain::time::Millis;
use tonic::{Request, Status};

use crate::ca;
use crate::metrics;
use crate::shared::Shared;
use crate::store::GatewayStoreError;

/// The caller: an enrolled agent with a valid certificate.
pub(crate) struct Peer {
    pub(crate) agent: Agent,
    pub(crate) certificate_not_after: Millis,
    /// The count of revocations when the agent's row was read.
    revocations: u64,
}

/// Authenticates the caller by its certificate and by the agent's row.
pub(crate) async fn authorize<T>(shared: &Shared, request: &Request<T>) -> Result<Peer, Status> {
    let certificates = request.peer_certs().unwrap_or_default();
    let Some(certificate) = certificates.first() else {
        return Err(refused(
            "no_certificate",
            "this call requires the agent's certificate; enrol first",
        ));
    };
    let Some(identity) = ca::peer_identity(certificate) else {
        return Err(refused(
            "no_identity",
            "the certificate does not name an agent; enrol again",
        ));
    };
    let revocations = shared.revocations.count(shared.store());
    let agent = shared.store().agent(identity.agent_id).await;
    let agent = agent.map_err(|error| store_status(&error))?;
    let peer = Peer {
        agent: agent.ok_or_else(unknown)?,
        certificate_not_after: identity.not_after,
        revocations,
    };
    check(&peer, shared.now())?;
    Ok(peer)
}

/// Checks whether an open session may continue. It reads the agent's row only after a revocation of any agent.
pub(crate) async fn recheck(shared: &Shared, peer: &mut Peer) -> Result<(), Status> {
    let revocations = shared.revocations.count(shared.store());
    if revocations != peer.revocations {
        let agent = shared.store().agent(peer.agent.id).await;
        let agent = agent.map_err(|error| store_status(&error))?;
        peer.agent = agent.ok_or_else(unknown)?;
        peer.revocations = revocations;
    }
    check(peer, shared.now())
}

fn check(peer: &Peer, now: Millis) -> Result<(), Status> {
    if peer.agent.revoked_at.is_some() {
        return Err(revoked());
    }
    if now >= peer.certificate_not_after {
        return Err(refused(
            "expired_certificate",
            "the agent's certificate has expired; enrol again",
        ));
    }
    Ok(())
}

fn unknown() -> Status {
    refused(
        "unknown_agent",
        "this host does not know the agent; enrol again",
    )
}

/// The answer to a revoked agent.
pub(crate) fn revoked() -> Status {
    refused(
        "revoked_agent",
        "this agent was revoked; enrol again with a new enrolment token",
    )
}

/// Refuses to authenticate a caller, and counts it.
pub(crate) fn refused(reason: &'static str, text: &str) -> Status {
    metrics::refused(reason, 1);
    Status::unauthenticated(text)
}

/// The answer to an agent when the database failed. The host's log has the cause.
pub(crate) fn store_status(error: &GatewayStoreError) -> Status {
    let source: &dyn std::error::Error = error;
    match error {
        GatewayStoreError::Transient(_) => {
            tracing::warn!(error = source, "the database failed a call of an agent");
        }
        GatewayStoreError::Permanent(_) => {
            tracing::error!(error = source, "the database refused a call of an agent");
        }
    }
    Status::unavailable("the host's database failed; connect again in a few seconds")
}
