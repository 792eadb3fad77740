//! API keys, by their id, their public prefix and their name.

use host_domain::api_key::{ApiKey, ApiKeyState};
use host_domain::ids::ApiKeyId;
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, Value, json, sql};

impl FromRow for ApiKey {
    const TABLE: &'static str = "api_keys";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            prefix: row.text("prefix")?,
            hash: row.text("hash")?,
            name: row.text("name")?,
            scopes: row.json("scopes")?,
            created_at: row.millis("created_at")?,
            created_by: row.text("created_by")?,
            expires_at: row.millis_opt("expires_at")?,
            last_used_at: row.millis_opt("last_used_at")?,
            revoked_at: row.millis_opt("revoked_at")?,
        })
    }
}

impl Reader {
    /// A key by its id, whatever its state.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        const SQL: &str = "SELECT * FROM api_keys WHERE id = $1";
        self.first(sql(SQL).bind(id)).await
    }

    /// A key by the public part of its token, whatever its state.
    pub async fn api_key_by_prefix(&self, prefix: &str) -> Result<Option<ApiKey>, StoreError> {
        const SQL: &str = "SELECT * FROM api_keys WHERE prefix = $1";
        self.first(sql(SQL).bind(prefix)).await
    }

    /// The key of a name that nobody revoked; it may have expired.
    pub async fn api_key_by_name(&self, name: &str) -> Result<Option<ApiKey>, StoreError> {
        const SQL: &str = "SELECT * FROM api_keys WHERE name = $1 AND revoked_at IS NULL";
        self.first(sql(SQL).bind(name)).await
    }

    /// Keys in a state at a time, or all, newest first, beginning below `before`.
    pub async fn list_api_keys(
        &self,
        state: Option<ApiKeyState>,
        now: Millis,
        before: Option<ApiKeyId>,
        limit: u32,
    ) -> Result<Vec<ApiKey>, StoreError> {
        // The same rule as `ApiKey::state`; the contract compares the two.
        const SQL: &str = "SELECT * FROM api_keys
            WHERE ($1 IS NULL OR $1 = CASE
                WHEN expires_at <= $2 AND (revoked_at IS NULL OR revoked_at >= expires_at) THEN 'expired'
                WHEN revoked_at IS NOT NULL THEN 'revoked' ELSE 'active' END)
            AND ($3 IS NULL OR id < $3) ORDER BY id DESC LIMIT $4";
        let state = state.map(ApiKeyState::as_str);
        let stmt = sql(SQL).bind(state).bind(now).bind(before).bind(limit);
        self.all(stmt).await
    }

    /// Whether another key than this one is active at a time and has a scope.
    pub async fn has_other_api_key(
        &self,
        id: ApiKeyId,
        scope: &str,
        now: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM api_keys
            WHERE id <> $1 AND scopes LIKE $2 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3)";
        let stmt = sql(SQL).bind(id).bind(with_scope(scope)).bind(now);
        Ok(self.number(stmt).await?.unwrap_or(0) > 0)
    }
}

impl Tx {
    /// Stores a key. `Conflict` when its name belongs to another key that nobody revoked.
    pub async fn insert_api_key(&mut self, key: &ApiKey) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO api_keys (id, prefix, hash, name, scopes, created_at, created_by, expires_at,
                last_used_at, revoked_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let stmt = sql(SQL)
            .bind(key.id)
            .bind(&key.prefix)
            .bind(&key.hash)
            .bind(&key.name)
            .bind(json(&key.scopes))
            .bind(key.created_at)
            .bind(&key.created_by)
            .bind(key.expires_at)
            .bind(key.last_used_at)
            .bind(key.revoked_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("an active API key of this name"))?;
        Ok(())
    }

    /// Revokes a key; `false` when it was revoked before or is unknown.
    pub async fn revoke_api_key(&mut self, id: ApiKeyId, at: Millis) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL";
        Ok(self.execute(sql(SQL).bind(at).bind(id)).await? == 1)
    }

    /// Frees the name of a key that has expired, so that a new key can have it. The key stays expired.
    pub async fn free_expired_api_key_name(
        &mut self,
        name: &str,
        now: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE api_keys SET revoked_at = expires_at
            WHERE name = $1 AND revoked_at IS NULL AND expires_at <= $2";
        Ok(self.execute(sql(SQL).bind(name).bind(now)).await? == 1)
    }

    /// Locks every key that has a scope and is not revoked until the transaction ends, so that two revocations see each other.
    pub async fn lock_api_keys_with(&mut self, scope: &str) -> Result<u64, StoreError> {
        const SQL: &str =
            "UPDATE api_keys SET name = name WHERE revoked_at IS NULL AND scopes LIKE $1";
        self.execute(sql(SQL).bind(with_scope(scope))).await
    }

    /// Records a use of a key, unless a later one than `since` is recorded.
    pub async fn record_api_key_use(
        &mut self,
        id: ApiKeyId,
        at: Millis,
        since: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE api_keys SET last_used_at = $2
            WHERE id = $1 AND (last_used_at IS NULL OR last_used_at <= $3)";
        Ok(self.execute(sql(SQL).bind(id).bind(at).bind(since)).await? == 1)
    }

    /// Removes up to `limit` keys that were revoked or expired before a time, and says how many.
    pub async fn prune_api_keys(&mut self, before: Millis, limit: u32) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM api_keys WHERE id IN
            (SELECT id FROM api_keys WHERE revoked_at < $1 OR expires_at < $1 ORDER BY id LIMIT $2)";
        self.execute(sql(SQL).bind(before).bind(limit)).await
    }
}

/// Finds a scope in the JSON list of a row. Scopes are the program's own words, without a wildcard.
fn with_scope(scope: &str) -> Value {
    format!("%\"{scope}\"%").into()
}
