//! Machines that nodes run on.

use host_domain::agent::Host;
use host_domain::ids::HostId;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for Host {
    const TABLE: &'static str = "hosts";

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
    /// A host by its id.
    pub async fn host(&self, id: HostId) -> Result<Option<Host>, StoreError> {
        const SQL: &str = "SELECT * FROM hosts WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// A host by its name.
    pub async fn host_by_name(&self, name: &str) -> Result<Option<Host>, StoreError> {
        const SQL: &str = "SELECT * FROM hosts WHERE name = $1";
        self.first(sql(SQL).bind(name)).await
    }

    /// Hosts in the order of their making, beginning behind `after`.
    pub async fn list_hosts(
        &self,
        after: Option<HostId>,
        limit: u32,
    ) -> Result<Vec<Host>, StoreError> {
        const SQL: &str = "SELECT * FROM hosts WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2";
        self.all(sql(SQL).bind(after).bind(limit)).await
    }
}

impl Tx {
    /// Makes a host; `false` when its name is taken.
    pub async fn insert_host(&mut self, host: &Host) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO hosts (id, name, provider, region, ip, created_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        let stmt = sql(SQL)
            .bind(host.id)
            .bind(&host.name)
            .bind(&host.provider)
            .bind(&host.region)
            .bind(host.ip.as_deref())
            .bind(host.created_at);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Says where a host is, which for some is known only when they were made.
    pub async fn set_host_ip(&mut self, id: HostId, ip: &str) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE hosts SET ip = $1 WHERE id = $2";
        Ok(self.execute(sql(SQL).bind(ip).bind(id)).await? == 1)
    }
}
