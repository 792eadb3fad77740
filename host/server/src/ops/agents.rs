//! Agents, their machines and the tokens by which they join.

use host_domain::agent::{Agent, EnrolmentToken, Machine};
use host_domain::ids::{AgentId, MachineId, NodeId};
use host_domain::time::Millis;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::audit::audit;
use super::{IssuedToken, OpError, Page, PageRequest, Principal};
use crate::app::App;
use host_store::{Tx, retried};

impl App {
    /// Agents, oldest first.
    pub async fn list_agents(&self, page: &PageRequest) -> Result<Page<Agent>, OpError> {
        let items = self.db.list_agents(page.after()?, page.rows()).await?;
        Ok(Page::cut(items, page, |agent| agent.id.to_string()))
    }

    /// Whether an agent is connected to this process.
    pub fn is_connected(&self, id: AgentId) -> bool {
        self.sessions.is_connected(id)
    }

    /// Issues a one-time token for the agent of a machine, which is made when there is none of that name.
    pub async fn issue_enrolment_token(
        &self,
        who: &Principal,
        machine: &str,
    ) -> Result<IssuedToken, OpError> {
        retried(|| self.issue_enrolment_token_once(who, machine)).await
    }

    async fn issue_enrolment_token_once(
        &self,
        who: &Principal,
        machine: &str,
    ) -> Result<IssuedToken, OpError> {
        let now = self.clock.now();
        let mut tx = self.db.begin().await?;
        let row = ensure_machine(&mut tx, machine, &MachineOf::provider("byo"), now).await?;
        let issued = self.issue_token(&mut tx, &row, None, now).await?;
        audit(
            &mut tx,
            who,
            "issue_enrolment_token",
            format!("machine/{}", row.id),
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(issued)
    }

    /// Cuts an agent off for good; its session ends with its next beat.
    pub async fn revoke_agent(&self, who: &Principal, id: AgentId) -> Result<(), OpError> {
        let now = self.clock.now();
        if who.effect_on("agent") == Some(id) {
            self.sessions.disconnect(id);
            return Ok(());
        }
        let revoke = || async {
            let mut tx = self.db.begin().await?;
            if !tx.revoke_agent(id, now).await? {
                return Err(OpError::not_found("agent", id));
            }
            audit(&mut tx, who, "revoke_agent", format!("agent/{id}"), now).await?;
            Ok(tx.commit().await?)
        };
        retried(revoke).await?;
        self.sessions.disconnect(id);
        Ok(())
    }

    pub(crate) async fn issue_token(
        &self,
        tx: &mut Tx,
        machine: &Machine,
        node_id: Option<NodeId>,
        now: Millis,
    ) -> Result<IssuedToken, OpError> {
        let random: [u8; 32] = rand::rng().random();
        let token = SecretString::from(format!("bw_join_{}", hex::encode(random)));
        let expires_at = now.plus(self.config.provisioning.token_life);
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

/// What is stored of a token. It is random over its whole length, so a plain hash tells nothing.
fn token_hash(token: &SecretString) -> String {
    hex::encode(Sha256::digest(token.expose_secret().as_bytes()))
}

/// Which machine provider a machine belongs to, and its region.
pub(crate) struct MachineOf<'a> {
    pub(crate) provider: &'a str,
    pub(crate) region: &'a str,
    pub(crate) address: Option<&'a str>,
}

impl<'a> MachineOf<'a> {
    /// A machine of a provider that knows no regions.
    pub(crate) fn provider(provider: &'a str) -> Self {
        Self {
            provider,
            region: provider,
            address: None,
        }
    }
}

/// The machine of that name, made when there is none, also when somebody else makes it at the same time.
pub(crate) async fn ensure_machine(
    tx: &mut Tx,
    name: &str,
    machine: &MachineOf<'_>,
    now: Millis,
) -> Result<Machine, OpError> {
    if let Some(machine) = tx.machine_by_name(name).await? {
        return Ok(machine);
    }
    let machine = Machine {
        id: MachineId(Uuid::now_v7()),
        name: name.to_owned(),
        provider: machine.provider.to_owned(),
        region: machine.region.to_owned(),
        ip: machine.address.map(str::to_owned),
        created_at: now,
    };
    if tx.insert_machine(&machine).await? {
        return Ok(machine);
    }
    let made = tx.machine_by_name(name).await?;
    made.ok_or_else(|| OpError::not_found("machine", name))
}
