//! API keys, by their public prefix and the hash of their secret.

use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A key as stored: nothing of it can be used to sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The public part that finds the row.
    pub prefix: String,
    /// Hash of the secret, in hex.
    pub hash: String,
    /// Who uses it, for the audit log.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// When it was made.
    pub created_at: Millis,
    /// When it was taken back.
    pub revoked_at: Option<Millis>,
}

impl FromRow for ApiKey {
    const TABLE: &'static str = "api_keys";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            prefix: row.text("prefix")?,
            hash: row.text("hash")?,
            name: row.text("name")?,
            scopes: row.json("scopes")?,
            created_at: row.millis("created_at")?,
            revoked_at: row.millis_opt("revoked_at")?,
        })
    }
}

impl Reader {
    /// A key by its prefix, revoked or not.
    pub async fn api_key(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        const SQL: &str = "SELECT * FROM api_keys WHERE prefix = $1";
        self.first(sql(SQL).bind(prefix)).await
    }
}

impl Tx {
    /// Keeps a key. `Conflict` when its prefix is taken.
    pub async fn insert_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO api_keys (prefix, hash, name, scopes, created_at, revoked_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let stmt = sql(SQL)
            .bind(&key.prefix)
            .bind(&key.hash)
            .bind(&key.name)
            .bind(json(&key.scopes))
            .bind(key.created_at)
            .bind(key.revoked_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("a key of this prefix"))?;
        Ok(())
    }

    /// Takes a key back; `false` when it was before or is unknown.
    pub async fn revoke_api_key(&mut self, prefix: &str, at: Millis) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE api_keys SET revoked_at = $1 WHERE prefix = $2 AND revoked_at IS NULL";
        Ok(self.execute(sql(SQL).bind(at).bind(prefix)).await? == 1)
    }
}
