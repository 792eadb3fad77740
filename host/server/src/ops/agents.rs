//! Agents and their machines: listed, enrolled and revoked.

use host_domain::agent::{Agent, Machine};
use host_domain::ids::{AgentId, MachineId};
use host_domain::time::Millis;
use uuid::Uuid;

use super::agent_link::{AgentLink, IssuedToken};
use super::audit::audit;
use super::records::Records;
use super::{OpError, Page, PageRequest, Principal};
use host_store::{Tx, retried};

/// Use cases on agents.
#[derive(Clone)]
pub struct Agents {
    records: Records,
    link: AgentLink,
}

impl Agents {
    pub(crate) fn new(records: Records, link: AgentLink) -> Self {
        Self { records, link }
    }

    /// Agents, oldest first.
    pub async fn list(&self, page: &PageRequest) -> Result<Page<Agent>, OpError> {
        let items = self
            .records
            .db
            .list_agents(page.after()?, page.rows())
            .await?;
        Ok(Page::cut(items, page, |agent| agent.id.to_string()))
    }

    /// Whether an agent is connected to this process.
    pub fn is_connected(&self, id: AgentId) -> bool {
        self.link.sessions.is_connected(id)
    }

    /// Issues a one-time token for the agent of a machine. A machine that does not exist is created.
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
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        let row = ensure_machine(&mut tx, machine, &MachineOf::provider("byo"), now).await?;
        let issued = self.link.issue_token(&mut tx, &row, None, now).await?;
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

    /// Revokes an agent permanently; its session ends with its next heartbeat.
    pub async fn revoke(&self, who: &Principal, id: AgentId) -> Result<(), OpError> {
        let now = self.records.now();
        if who.effect_on("agent") == Some(id) {
            self.link.sessions.disconnect(id);
            return Ok(());
        }
        let revoke = || async {
            let mut tx = self.records.db.begin().await?;
            if !tx.revoke_agent(id, now).await? {
                return Err(OpError::not_found("agent", id));
            }
            audit(&mut tx, who, "revoke_agent", format!("agent/{id}"), now).await?;
            Ok(tx.commit().await?)
        };
        retried(revoke).await?;
        self.link.sessions.disconnect(id);
        Ok(())
    }
}

/// Which machine provider a machine belongs to, and its region.
pub(crate) struct MachineOf<'a> {
    pub(crate) provider: &'a str,
    pub(crate) region: &'a str,
    pub(crate) address: Option<&'a str>,
}

impl<'a> MachineOf<'a> {
    /// A machine of a provider without regions.
    pub(crate) fn provider(provider: &'a str) -> Self {
        Self {
            provider,
            region: provider,
            address: None,
        }
    }
}

/// The machine of that name. A machine that does not exist is created, also if another host creates it at the same time.
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
