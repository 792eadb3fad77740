//! Enrolled agents.

use std::collections::BTreeMap;

use host_domain::agent::Agent;
use host_domain::ids::{AgentId, MachineId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for Agent {
    const TABLE: &'static str = "agents";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            machine_id: row.parsed("machine_id")?,
            name: row.text("name")?,
            version: row.text("version")?,
            certificate_not_after: row.millis("certificate_not_after")?,
            last_seen_at: row.millis_opt("last_seen_at")?,
            revoked_at: row.millis_opt("revoked_at")?,
            created_at: row.millis("created_at")?,
        })
    }
}

impl Reader {
    /// An agent by its id, revoked or not.
    pub async fn agent(&self, id: AgentId) -> Result<Option<Agent>, StoreError> {
        const SQL: &str = "SELECT * FROM agents WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// The newest agent of a machine that is not revoked.
    pub async fn agent_of_machine(&self, machine: MachineId) -> Result<Option<Agent>, StoreError> {
        const SQL: &str = "SELECT * FROM agents WHERE machine_id = $1 AND revoked_at IS NULL
            ORDER BY id DESC LIMIT 1";
        self.first(sql(SQL).bind(machine)).await
    }

    /// How many agents were ever revoked, by any process. The number only rises.
    pub async fn revoked_agents(&self) -> Result<u64, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM agents WHERE revoked_at IS NOT NULL";
        let n = self.number(sql(SQL)).await?.unwrap_or(0);
        Ok(u64::try_from(n).unwrap_or(0))
    }

    /// Agents in the order of their enrolment, after `after`.
    pub async fn list_agents(
        &self,
        after: Option<AgentId>,
        limit: u32,
    ) -> Result<Vec<Agent>, StoreError> {
        const SQL: &str = "SELECT * FROM agents WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2";
        self.all(sql(SQL).bind(after).bind(limit)).await
    }
}

impl Tx {
    /// Inserts a newly enrolled agent.
    pub async fn insert_agent(&mut self, agent: &Agent) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO agents (id, machine_id, name, version, certificate_not_after,
                last_seen_at, revoked_at, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let stmt = sql(SQL)
            .bind(agent.id)
            .bind(agent.machine_id)
            .bind(&agent.name)
            .bind(&agent.version)
            .bind(agent.certificate_not_after)
            .bind(agent.last_seen_at)
            .bind(agent.revoked_at)
            .bind(agent.created_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("an agent of this id"))?;
        Ok(())
    }

    /// Stores the version from an agent's hello; `false` when the agent is unknown or revoked.
    pub async fn set_agent_version(
        &mut self,
        id: AgentId,
        version: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE agents SET version = $1 WHERE id = $2 AND revoked_at IS NULL";
        Ok(self.execute(sql(SQL).bind(version).bind(id)).await? == 1)
    }

    /// Stores the end of an agent's new certificate; `false` when the agent is unknown or revoked.
    pub async fn renew_agent(
        &mut self,
        id: AgentId,
        certificate_not_after: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE agents SET certificate_not_after = $1 WHERE id = $2 AND revoked_at IS NULL";
        Ok(self
            .execute(sql(SQL).bind(certificate_not_after).bind(id))
            .await?
            == 1)
    }

    /// Stores when agents were last seen; an older time changes nothing.
    pub async fn touch_agents(&mut self, seen: &[(AgentId, Millis)]) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE agents SET last_seen_at = seen.column2 FROM (VALUES {}) AS seen
            WHERE agents.id = seen.column1
              AND (agents.last_seen_at IS NULL OR agents.last_seen_at < seen.column2)";
        let mut newest = BTreeMap::new();
        for (id, at) in seen {
            let kept = newest.entry(*id).or_insert(*at);
            *kept = (*kept).max(*at);
        }
        let row = |(id, at): (AgentId, Millis)| vec![id.into(), at.into()];
        self.execute_list(SQL, newest.into_iter().map(row).collect())
            .await?;
        Ok(())
    }

    /// Revokes an agent; `false` when it is revoked already or unknown.
    pub async fn revoke_agent(&mut self, id: AgentId, at: Millis) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE agents SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
        let is_new = self.execute(sql(SQL).bind(at).bind(id)).await? == 1;
        self.revoked += u64::from(is_new);
        Ok(is_new)
    }
}
