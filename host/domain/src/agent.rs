//! Agents, the hosts that they run on, and the tokens by which they join.

use crate::ids::{AgentId, MachineId, NodeId};
use crate::time::Millis;

/// A machine that nodes run on.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// UUID v7.
    pub id: MachineId,
    /// Unique, for people.
    pub name: String,
    /// The provider that made it.
    pub provider: String,
    /// The provider's region.
    pub region: String,
    /// Its address, when known.
    pub ip: Option<String>,
    /// When its record was made.
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
    /// Its version, as it said in its last hello.
    pub version: String,
    /// When its certificate ends.
    pub certificate_not_after: Millis,
    /// When it was last heard of.
    pub last_seen_at: Option<Millis>,
    /// When it was cut off for good.
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
    /// The node whose provisioning asked for it.
    pub node_id: Option<NodeId>,
    /// When it ends.
    pub expires_at: Millis,
    /// When it was used.
    pub used_at: Option<Millis>,
    /// When it was taken back.
    pub revoked_at: Option<Millis>,
}

/// Why a token is refused. The agent hears it: the reason helps whoever holds the token and nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// Nobody issued it.
    #[error("the enrolment token is not known here; ask for a new one")]
    Foreign,
    /// Somebody enrolled with it.
    #[error("the enrolment token was used before; ask for a new one")]
    Used,
    /// It is too old.
    #[error("the enrolment token has expired; ask for a new one")]
    Expired,
    /// It was taken back.
    #[error("the enrolment token was revoked; ask for a new one")]
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
