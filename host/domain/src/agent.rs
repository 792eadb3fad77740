//! Agents, the machines that they run on, and the tokens by which they join.

use crate::ids::{AgentId, MachineId, NodeId};
use crate::time::Millis;

/// A machine that nodes run on.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// UUID v7.
    pub id: MachineId,
    /// Unique, for people.
    pub name: String,
    /// The machine provider that created it.
    pub provider: String,
    /// The provider's region.
    pub region: String,
    /// Its address, when known.
    pub ip: Option<String>,
    /// When its record was created.
    pub created_at: Millis,
}

/// An enrolled agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Agent {
    /// The subject of its certificate.
    pub id: AgentId,
    /// The machine that it runs on.
    pub machine_id: MachineId,
    /// For people.
    pub name: String,
    /// Its version, as reported in its last hello.
    pub version: String,
    /// When its certificate expires.
    pub certificate_not_after: Millis,
    /// When the host last received a message from it.
    pub last_seen_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
    /// When it enrolled.
    pub created_at: Millis,
}

/// A one-time token; only its hash is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolmentToken {
    /// SHA-256 of the token, in hex.
    pub hash: String,
    /// The machine that the agent will belong to.
    pub machine_id: MachineId,
    /// The node whose provisioning requested it.
    pub node_id: Option<NodeId>,
    /// When it expires.
    pub expires_at: Millis,
    /// When it was used.
    pub used_at: Option<Millis>,
    /// When it was revoked.
    pub revoked_at: Option<Millis>,
}

/// Why a token is rejected. The agent gets the reason, which helps only whoever holds the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// This host did not issue it.
    #[error("this host does not know the enrolment token; request a new one")]
    Foreign,
    /// An agent enrolled with it already.
    #[error("the enrolment token was used before; request a new one")]
    Used,
    /// It has expired.
    #[error("the enrolment token has expired; request a new one")]
    Expired,
    /// It was revoked.
    #[error("the enrolment token was revoked; request a new one")]
    Revoked,
}

impl EnrolmentToken {
    /// Whether an agent may enrol with it now.
    pub fn check(&self, now: Millis) -> Result<(), TokenRefused> {
        if self.used_at.is_some() {
            Err(TokenRefused::Used)
        } else if self.revoked_at.is_some() {
            Err(TokenRefused::Revoked)
        } else if now >= self.expires_at {
            Err(TokenRefused::Expired)
        } else {
            Ok(())
        }
    }
}
