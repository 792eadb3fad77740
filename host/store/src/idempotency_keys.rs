//! Answers to requests with an idempotency key, so that a repeated request gets the same answer without another
//! effect.

use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// Status of a request whose effect is committed and whose answer is not stored yet, or was lost with the host.
pub const UNANSWERED: u16 = 0;

/// A stored answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentAnswer {
    /// Who sent the request.
    pub principal: String,
    /// The key that they chose.
    pub key: String,
    /// Hash of the request: a different request with the same key is rejected.
    pub body_hash: String,
    /// Status code of the answer; [`UNANSWERED`] while only the effect is known.
    pub status: u16,
    /// Body of the answer, or the subject of the effect.
    pub response: String,
    /// Until when it is kept.
    pub expires_at: Millis,
}

impl FromRow for IdempotentAnswer {
    const TABLE: &'static str = "idempotency_keys";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            principal: row.text("principal")?,
            key: row.text("key")?,
            body_hash: row.text("body_hash")?,
            status: u16::try_from(row.int("status")?)
                .map_err(|error| BadColumn::new("status", error))?,
            response: row.text("response")?,
            expires_at: row.millis("expires_at")?,
        })
    }
}

impl Reader {
    /// The answer that is stored under a key, unless it has expired.
    pub async fn idempotent_answer(
        &self,
        principal: &str,
        key: &str,
        now: Millis,
    ) -> Result<Option<IdempotentAnswer>, StoreError> {
        const SQL: &str =
            "SELECT * FROM idempotency_keys WHERE principal = $1 AND key = $2 AND expires_at > $3";
        self.first(sql(SQL).bind(principal).bind(key).bind(now))
            .await
    }
}

impl Tx {
    /// Stores an answer, or reserves the key in the transaction of the effect. `false` when a concurrent request has
    /// the key: roll back.
    pub async fn put_idempotent_answer(
        &mut self,
        answer: &IdempotentAnswer,
        now: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO idempotency_keys (principal, key, body_hash, status, response, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (principal, key) DO UPDATE SET body_hash = excluded.body_hash, status = excluded.status,
                response = excluded.response, expires_at = excluded.expires_at
            WHERE idempotency_keys.expires_at <= $7";
        let stmt = sql(SQL)
            .bind(&answer.principal)
            .bind(&answer.key)
            .bind(&answer.body_hash)
            .bind(i64::from(answer.status))
            .bind(&answer.response)
            .bind(answer.expires_at)
            .bind(now);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Stores the answer of a request that reserved the key. `false` when none did.
    pub async fn complete_idempotent_answer(
        &mut self,
        answer: &IdempotentAnswer,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE idempotency_keys SET status = $4, response = $5
            WHERE principal = $1 AND key = $2 AND body_hash = $3 AND status = 0";
        let stmt = sql(SQL)
            .bind(&answer.principal)
            .bind(&answer.key)
            .bind(&answer.body_hash)
            .bind(i64::from(answer.status))
            .bind(&answer.response);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Deletes up to `limit` expired answers, and returns their number.
    pub async fn prune_idempotent_answers(
        &mut self,
        now: Millis,
        limit: u32,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM idempotency_keys WHERE (principal, key) IN
            (SELECT principal, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
        self.execute(sql(SQL).bind(now).bind(limit)).await
    }
}
