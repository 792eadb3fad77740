//! Agents and enrolment tokens in JSON.

use host_domain::agent::Agent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::values::time;

/// Whom the token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenRequest {
    /// Name of the machine; it is recorded if it is new.
    pub machine: String,
}

/// A one-time token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenView {
    /// The token; it can't be shown again.
    pub token: String,
    /// The machine that it is for.
    pub machine: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// The subject of its certificate.
    pub id: Uuid,
    /// The machine that it runs on.
    pub machine_id: Uuid,
    /// For people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether its stream is open.
    pub is_connected: bool,
    /// When its certificate ends.
    pub certificate_not_after: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// When it was cut off for good.
    pub revoked_at: Option<Timestamp>,
    /// When it enrolled.
    pub created_at: Timestamp,
}

impl AgentView {
    /// The agent, and whether its stream is open.
    pub fn of(agent: Agent, is_connected: bool) -> Self {
        Self {
            id: agent.id.0,
            machine_id: agent.machine_id.0,
            name: agent.name,
            version: agent.version,
            is_connected,
            certificate_not_after: time(agent.certificate_not_after),
            last_seen_at: agent.last_seen_at.map(time),
            revoked_at: agent.revoked_at.map(time),
            created_at: time(agent.created_at),
        }
    }
}
