//! The way to the agents: the sessions of this process, and wake-ups for agents that are connected to another host.

use std::sync::Arc;
use std::time::Duration;

use host_bus::{Bus, Wake};
use host_domain::agent::{EnrolmentToken, Machine};
use host_domain::ids::{AgentId, NodeId};
use host_domain::time::{Clock, Millis};
use host_gateway::Sessions;
use host_store::Tx;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::OpError;

/// Reaches agents, and issues the tokens by which they enrol. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AgentLink {
    pub(crate) sessions: Sessions,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long an enrolment token is valid.
    pub(crate) token_life: Duration,
}

/// A one-time token, shown once.
#[derive(Debug)]
pub struct IssuedToken {
    /// The token itself.
    pub token: SecretString,
    /// The machine that the agent will belong to.
    pub machine: String,
    /// When it expires.
    pub expires_at: Millis,
}

impl AgentLink {
    /// Wakes the agent's session on whichever host it is, because a command was queued for it.
    pub(crate) fn wake(&self, agent: AgentId) {
        self.sessions.notify(agent);
        self.bus.wake(Wake::Commands { agent });
    }

    /// Sends every connected agent its assignments again.
    pub(crate) fn push_assignments(&self) {
        self.sessions
            .push_assignments(next_generation(self.clock.now()));
    }

    /// Issues a token for the agent of a machine.
    pub(crate) async fn issue_token(
        &self,
        tx: &mut Tx,
        machine: &Machine,
        node_id: Option<NodeId>,
        now: Millis,
    ) -> Result<IssuedToken, OpError> {
        let random: [u8; 32] = rand::rng().random();
        let token = SecretString::from(format!("bw_join_{}", hex::encode(random)));
        let expires_at = now.plus(self.token_life);
        tx.insert_enrolment_token(&EnrolmentToken {
            hash: token_hash(&token),
            machine_id: machine.id,
            node_id,
            expires_at,
            used_at: None,
            revoked_at: None,
        })
        .await?;
        Ok(IssuedToken {
            token,
            machine: machine.name.clone(),
            expires_at,
        })
    }
}

/// The number of the next assignments: it rises, also across restarts.
pub(crate) fn next_generation(now: Millis) -> u64 {
    u64::try_from(now.0).unwrap_or(0)
}

/// The stored form of a token. The token is random over its whole length, so a plain hash reveals nothing.
fn token_hash(token: &SecretString) -> String {
    hex::encode(Sha256::digest(token.expose_secret().as_bytes()))
}
