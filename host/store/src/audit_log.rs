//! Who did what: appended, never changed.

use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// One act.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Rises with each act; 0 before it is stored.
    pub seq: i64,
    /// When.
    pub at: Millis,
    /// Who.
    pub actor: String,
    /// What, such as `node.terminate`.
    pub action: String,
    /// To what, such as a node id.
    pub target: String,
    /// More, nothing secret.
    pub details: serde_json::Value,
}

impl FromRow for AuditEntry {
    const TABLE: &'static str = "audit_log";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            seq: row.int("seq")?,
            at: row.millis("at")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            target: row.text("target")?,
            details: row.json("details")?,
        })
    }
}

impl Reader {
    /// Acts, newest first, beginning below `before`.
    pub async fn list_audit(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        const SQL: &str =
            "SELECT * FROM audit_log WHERE ($1 IS NULL OR seq < $1) ORDER BY seq DESC LIMIT $2";
        self.all(sql(SQL).bind(before).bind(limit)).await
    }
}

impl Tx {
    /// Appends an act; its `seq` is given by the database.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO audit_log (at, actor, action, target, details) VALUES ($1, $2, $3, $4, $5)";
        let stmt = sql(SQL)
            .bind(entry.at)
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(&entry.target)
            .bind(json(&entry.details));
        self.execute(stmt).await?;
        Ok(())
    }
}
