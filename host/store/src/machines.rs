//! Machines that nodes run on.

use host_domain::agent::Machine;
use host_domain::ids::MachineId;

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

    /// Machines in the order of their creation, after `after`.
    pub async fn list_machines(
        &self,
        after: Option<MachineId>,
        limit: u32,
    ) -> Result<Vec<Machine>, StoreError> {
        const SQL: &str =
            "SELECT * FROM machines WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2";
        self.all(sql(SQL).bind(after).bind(limit)).await
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
