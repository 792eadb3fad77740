//! Machines that nodes run on.

use host_domain::agent::Machine;
use host_domain::ids::MachineId;
use host_domain::migration_target::MachineLoad;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for Machine {
    const TABLE: &'static str = "machines";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            name: row.text("name")?,
            provider: row.text("provider")?,
            region: row.text("region")?,
            ip: row.text_opt("ip")?,
            created_at: row.millis("created_at")?,
        })
    }
}

impl FromRow for MachineLoad {
    const TABLE: &'static str = "machines";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            machine: Machine::from_row(row)?,
            n_nodes: row.count("n_nodes")?,
            agent_seen_at: row.millis_opt("agent_seen_at")?,
        })
    }
}

impl Reader {
    /// A machine by its id.
    pub async fn machine(&self, id: MachineId) -> Result<Option<Machine>, StoreError> {
        const SQL: &str = "SELECT * FROM machines WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// A machine by its name.
    pub async fn machine_by_name(&self, name: &str) -> Result<Option<Machine>, StoreError> {
        const SQL: &str = "SELECT * FROM machines WHERE name = $1";
        self.first(sql(SQL).bind(name)).await
    }

    /// The other machines of a machine's provider and region with their load, by id, after `after`.
    pub async fn machine_loads(
        &self,
        source: &Machine,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<MachineLoad>, StoreError> {
        // As `agent_of_machine`: the newest agent counts.
        const SQL: &str = "SELECT machines.*,
                (SELECT count(*) FROM nodes WHERE nodes.machine_id = machines.id) AS n_nodes,
                (SELECT agents.last_seen_at FROM agents
                 WHERE agents.machine_id = machines.id AND agents.revoked_at IS NULL
                 ORDER BY agents.id DESC LIMIT 1) AS agent_seen_at
            FROM machines
            WHERE provider = $1 AND region = $2 AND id <> $3 AND ($4 IS NULL OR id > $4)
            ORDER BY id LIMIT $5";
        let stmt = sql(SQL)
            .bind(&source.provider)
            .bind(&source.region)
            .bind(source.id)
            .bind(after)
            .bind(limit);
        self.all(stmt).await
    }
}

impl Tx {
    /// Inserts a machine; `false` when its name is taken.
    pub async fn insert_machine(&mut self, machine: &Machine) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO machines (id, name, provider, region, ip, created_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        let stmt = sql(SQL)
            .bind(machine.id)
            .bind(&machine.name)
            .bind(&machine.provider)
            .bind(&machine.region)
            .bind(machine.ip.as_deref())
            .bind(machine.created_at);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Sets a machine's address, which some providers know only after its creation.
    pub async fn set_machine_ip(&mut self, id: MachineId, ip: &str) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE machines SET ip = $1 WHERE id = $2";
        Ok(self.execute(sql(SQL).bind(ip).bind(id)).await? == 1)
    }
}
