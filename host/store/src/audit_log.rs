//! Who did what: appended, never changed, deleted when its time is over.

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
    /// Who: the name of an API key, `host`, or `agent:` and an agent's id.
    pub actor: String,
    /// What, such as `terminate_node`.
    pub action: String,
    /// To which object, such as `node/<id>`.
    pub object: String,
    /// The API request; `None` where none asked for it.
    pub request_id: Option<String>,
    /// More, nothing secret; `null` where there is nothing more to say.
    pub details: serde_json::Value,
}

/// Which acts; absent fields accept everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of one actor.
    pub actor: Option<String>,
    /// One action.
    pub action: Option<String>,
    /// On one object (`node/<id>`), on what belongs to it, or on a kind of object (`node`).
    pub object: Option<String>,
    /// From this time on.
    pub since: Option<Millis>,
    /// Before this time.
    pub until: Option<Millis>,
}

impl FromRow for AuditEntry {
    const TABLE: &'static str = "audit_log";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            seq: row.int("seq")?,
            at: row.millis("at")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            object: row.text("object")?,
            request_id: row.text_opt("request_id")?,
            details: row.json("details")?,
        })
    }
}

impl Reader {
    /// Acts, newest first, beginning below `before`.
    pub async fn list_audit(
        &self,
        filter: &AuditFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        const SQL: &str = "SELECT * FROM audit_log
            WHERE ($1 IS NULL OR actor = $1) AND ($2 IS NULL OR action = $2)
            AND ($3 IS NULL OR object = $3 OR substr(object, 1, length($3) + 1) = $3 || '/')
            AND ($4 IS NULL OR at >= $4) AND ($5 IS NULL OR at < $5)
            AND ($6 IS NULL OR seq < $6) ORDER BY seq DESC LIMIT $7";
        let stmt = sql(SQL)
            .bind(filter.actor.as_deref())
            .bind(filter.action.as_deref())
            .bind(filter.object.as_deref())
            .bind(filter.since)
            .bind(filter.until)
            .bind(before)
            .bind(limit);
        self.all(stmt).await
    }
}

impl Tx {
    /// Appends an act; its `seq` is given by the database.
    pub async fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO audit_log (at, actor, action, object, request_id, details)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let stmt = sql(SQL)
            .bind(entry.at)
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(&entry.object)
            .bind(entry.request_id.as_deref())
            .bind(json(&entry.details));
        self.execute(stmt).await?;
        Ok(())
    }

    /// Removes up to `limit` acts from before a time, oldest first, and says how many.
    pub async fn prune_audit(&mut self, before: Millis, limit: u32) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM audit_log WHERE seq IN
            (SELECT seq FROM audit_log WHERE at < $1 ORDER BY seq LIMIT $2)";
        self.execute(sql(SQL).bind(before).bind(limit)).await
    }
}
