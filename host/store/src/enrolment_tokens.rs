//! One-time enrolment tokens, stored by their hashes.

use host_domain::agent::EnrolmentToken;
use host_domain::ids::{MachineId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for EnrolmentToken {
    const TABLE: &'static str = "enrolment_tokens";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            hash: row.text("hash")?,
            machine_id: row.parsed("machine_id")?,
            node_id: row.parsed_opt("node_id")?,
            expires_at: row.millis("expires_at")?,
            used_at: row.millis_opt("used_at")?,
            revoked_at: row.millis_opt("revoked_at")?,
        })
    }
}

impl Reader {
    /// A token by its hash.
    pub async fn enrolment_token(&self, hash: &str) -> Result<Option<EnrolmentToken>, StoreError> {
        const SQL: &str = "SELECT * FROM enrolment_tokens WHERE hash = $1";
        self.first(sql(SQL).bind(hash)).await
    }

    /// Whether a token was ever issued for a node's machine.
    pub async fn node_has_enrolment_token(
        &self,
        node: NodeId,
        machine: MachineId,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "SELECT * FROM enrolment_tokens WHERE node_id = $1 AND machine_id = $2 LIMIT 1";
        let token: Option<EnrolmentToken> = self.first(sql(SQL).bind(node).bind(machine)).await?;
        Ok(token.is_some())
    }
}

impl Tx {
    /// Inserts an issued token.
    pub async fn insert_enrolment_token(
        &mut self,
        token: &EnrolmentToken,
    ) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO enrolment_tokens (hash, machine_id, node_id, expires_at, used_at, revoked_at)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let stmt = sql(SQL)
            .bind(&token.hash)
            .bind(token.machine_id)
            .bind(token.node_id)
            .bind(token.expires_at)
            .bind(token.used_at)
            .bind(token.revoked_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("this enrolment token"))?;
        Ok(())
    }

    /// Uses a token: `true` for exactly one caller, and never for a revoked or expired one.
    pub async fn use_enrolment_token(
        &mut self,
        hash: &str,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE enrolment_tokens SET used_at = $1
            WHERE hash = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $1";
        Ok(self.execute(sql(SQL).bind(at).bind(hash)).await? == 1)
    }

    /// Revokes every unused token that was issued for a node, and returns their number.
    pub async fn revoke_node_enrolment_tokens(
        &mut self,
        node: NodeId,
        at: Millis,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "UPDATE enrolment_tokens SET revoked_at = $1
            WHERE node_id = $2 AND used_at IS NULL AND revoked_at IS NULL";
        self.execute(sql(SQL).bind(at).bind(node)).await
    }
}
