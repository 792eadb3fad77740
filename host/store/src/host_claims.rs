//! Which node has a machine of its own. The row of a machine is the only arbiter among nodes, and among hosts of one
//! database: whoever wants it writes it, and waits for whoever is writing it.

use host_domain::claim::HostClaim;
use host_domain::ids::{HostId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// Whether the node of a claim has left the machine behind: it is no more, or a migration that has ended took it elsewhere, or
/// did not and could not give back what it had made. A machine that an open migration works on is not left.
macro_rules! left_behind {
    () => {
        "EXISTS (SELECT 1 FROM nodes WHERE nodes.id = host_claims.node_id AND (
            nodes.state IN ('failed', 'terminated')
            OR (nodes.host_id <> host_claims.host_id
                AND EXISTS (SELECT 1 FROM node_migrations WHERE node_migrations.node_id = host_claims.node_id
                    AND ended_at IS NOT NULL
                    AND host_claims.host_id = CASE WHEN has_moved = 1 THEN source_host_id ELSE target_host_id END)
                AND NOT EXISTS (SELECT 1 FROM node_migrations WHERE node_migrations.node_id = host_claims.node_id
                    AND ended_at IS NULL
                    AND (source_host_id = host_claims.host_id OR target_host_id = host_claims.host_id)))))"
    };
}

impl FromRow for HostClaim {
    const TABLE: &'static str = "host_claims";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            host_id: row.parsed("host_id")?,
            node_id: row.parsed("node_id")?,
            claimed_at: row.millis("claimed_at")?,
            is_dirty: row.flag("is_dirty")?,
            cleanings: row.int("cleanings")?,
            clean_after: row.millis("clean_after")?,
            cleaning_until: row.millis("cleaning_until")?,
        })
    }
}

impl Reader {
    /// Who has a machine.
    pub async fn host_claim(&self, host: HostId) -> Result<Option<HostClaim>, StoreError> {
        const SQL: &str = "SELECT * FROM host_claims WHERE host_id = $1";
        self.first(sql(SQL).bind(host)).await
    }

    /// Machines that nodes left behind whose time has come, those that wait for the longest time first.
    pub async fn host_claims_to_clean(
        &self,
        now: Millis,
        limit: u32,
    ) -> Result<Vec<HostClaim>, StoreError> {
        const SQL: &str = concat!(
            "SELECT * FROM host_claims WHERE clean_after <= $1 AND cleaning_until <= $1 AND ",
            left_behind!(),
            " ORDER BY clean_after, host_id LIMIT $2"
        );
        self.all(sql(SQL).bind(now).bind(limit)).await
    }
}

impl Tx {
    /// Gives a machine to a node: one that nobody has, that it has already, or that a node which is no more left behind
    /// and that nobody cleans at the moment. `false` when it is another's.
    pub async fn claim_host(
        &mut self,
        host: HostId,
        node: NodeId,
        now: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO host_claims
                (host_id, node_id, claimed_at, is_dirty, cleanings, clean_after, cleaning_until)
            VALUES ($1, $2, $3, 0, 0, 0, 0)
            ON CONFLICT (host_id) DO UPDATE SET node_id = excluded.node_id, claimed_at = excluded.claimed_at,
                is_dirty = CASE WHEN host_claims.node_id = excluded.node_id THEN host_claims.is_dirty ELSE 1 END,
                cleanings = 0, clean_after = 0, cleaning_until = 0
            WHERE host_claims.node_id = excluded.node_id
               OR (host_claims.cleaning_until <= excluded.claimed_at AND EXISTS (SELECT 1 FROM nodes
                   WHERE nodes.id = host_claims.node_id AND nodes.state IN ('failed', 'terminated')))";
        let stmt = sql(SQL).bind(host).bind(node).bind(now);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Begins to clean a machine that a node left behind; nobody else does, or takes it, before `until`. Gives the number of
    /// the try; `None` when it is another's by now, or somebody is at it.
    pub async fn begin_cleaning(
        &mut self,
        claim: &HostClaim,
        now: Millis,
        until: Millis,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str = concat!(
            "UPDATE host_claims SET cleanings = cleanings + 1, cleaning_until = $1
            WHERE host_id = $2 AND node_id = $3 AND cleaning_until <= $4 AND ",
            left_behind!(),
            " RETURNING cleanings AS number"
        );
        let stmt = sql(SQL)
            .bind(until)
            .bind(claim.host_id)
            .bind(claim.node_id)
            .bind(now);
        self.number(stmt).await
    }

    /// Ends a try that did not clean the machine: nobody tries again before `next`. `false` when it is another's by now.
    pub async fn put_off_cleaning(
        &mut self,
        claim: &HostClaim,
        next: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE host_claims SET clean_after = $1, cleaning_until = 0
            WHERE host_id = $2 AND node_id = $3";
        let stmt = sql(SQL).bind(next).bind(claim.host_id).bind(claim.node_id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Lets go of a machine, which anybody may claim from here on. `false` when the node does not have it.
    pub async fn release_host(&mut self, host: HostId, node: NodeId) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM host_claims WHERE host_id = $1 AND node_id = $2";
        Ok(self.execute(sql(SQL).bind(host).bind(node)).await? == 1)
    }
}
