//! Who calls, and whether they may: the certificate names the agent, the agent's row says whether it was revoked, and the
//! injected clock whether the certificate has ended. That the certificate is from our authority was checked by TLS.

use host_domain::agent::Agent;
use host_domain::time::Millis;
use tonic::{Request, Status};

use super::ca;
use super::server::Shared;
use host_store::StoreError;

/// Who calls: an enrolled agent with a certificate that holds.
pub(super) struct Peer {
    pub(super) agent: Agent,
    pub(super) certificate_not_after: Millis,
    /// What [`Standing::number`](super::standing::Standing::number) was when the row was read.
    standing: u64,
}

/// Finds out who calls, by the certificate and by the agent's row.
pub(super) async fn authorize<T>(shared: &Shared, request: &Request<T>) -> Result<Peer, Status> {
    let certificates = request.peer_certs().unwrap_or_default();
    let Some(certificate) = certificates.first() else {
        return Err(refused(
            "no_certificate",
            "this call needs the agent's certificate; enrol first",
        ));
    };
    let Some(identity) = ca::peer_identity(certificate) else {
        return Err(refused(
            "no_identity",
            "the certificate is not an agent's; enrol anew",
        ));
    };
    let standing = shared.standing.number(&shared.parts.db);
    let agent = shared
        .parts
        .db
        .agent(identity.agent_id)
        .await
        .map_err(|e| store_status(&e))?;
    let Some(agent) = agent else {
        return Err(refused(
            "unknown_agent",
            "this agent is not known here; enrol anew",
        ));
    };
    let peer = Peer {
        agent,
        certificate_not_after: identity.not_after,
        standing,
    };
    check_standing(&peer, shared.now())?;
    Ok(peer)
}

/// Whether an open session may go on. The agent's row is read only when somebody was revoked since it was read last.
pub(super) async fn recheck(shared: &Shared, peer: &mut Peer) -> Result<(), Status> {
    let db = &shared.parts.db;
    let standing = shared.standing.number(db);
    if standing != peer.standing {
        let agent = db.agent(peer.agent.id).await;
        let agent = agent.map_err(|error| store_status(&error))?;
        peer.agent = agent
            .ok_or_else(|| refused("unknown_agent", "this agent is not known here; enrol anew"))?;
        peer.standing = standing;
    }
    check_standing(peer, shared.now())
}

fn check_standing(peer: &Peer, now: Millis) -> Result<(), Status> {
    if peer.agent.revoked_at.is_some() {
        return Err(revoked());
    }
    if now >= peer.certificate_not_after {
        return Err(refused(
            "expired_certificate",
            "the agent's certificate has ended; enrol anew",
        ));
    }
    Ok(())
}

/// What a revoked agent hears.
pub(super) fn revoked() -> Status {
    refused(
        "revoked_agent",
        "this agent was revoked; ask for a new enrolment token to join again",
    )
}

/// A refusal of who somebody is; counted.
pub(super) fn refused(reason: &'static str, text: &str) -> Status {
    metrics::counter!("gateway_refused_total", "reason" => reason).increment(1);
    Status::unauthenticated(text)
}

/// What an agent hears of a store that could not do it. The reason stays here.
pub(super) fn store_status(error: &StoreError) -> Status {
    let source: &dyn std::error::Error = error;
    tracing::warn!(error = source, "a call of an agent failed in the store");
    Status::unavailable("the host could not store or read it; connect again in a few seconds")
}
