//! Claims of nodes to machines of their own. The row of a machine is the only arbiter among the nodes and hosts of
//! one database: whoever claims the machine writes it, and concurrent writers wait.

use host_domain::claim::MachineClaim;
use host_domain::ids::{MachineId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// Whether the node of a claim has left the machine: the node is gone, or a finished node migration moved it
/// elsewhere, or failed and could not release the machine that it had created. A machine of a running node migration
/// does not count.
macro_rules! left_behind {
    () => {
        "EXISTS (SELECT 1 FROM nodes WHERE nodes.id = machine_claims.node_id AND (
            nodes.state IN ('failed', 'terminated')
            OR (nodes.machine_id <> machine_claims.machine_id
                AND EXISTS (SELECT 1 FROM node_migrations WHERE node_migrations.node_id = machine_claims.node_id
                    AND ended_at IS NOT NULL
                    AND machine_claims.machine_id = CASE WHEN has_moved = 1 THEN source_machine_id ELSE target_machine_id END)
                AND NOT EXISTS (SELECT 1 FROM node_migrations WHERE node_migrations.node_id = machine_claims.node_id
                    AND ended_at IS NULL
                    AND (source_machine_id = machine_claims.machine_id OR target_machine_id = machine_claims.machine_id)))))"
    };
}

impl FromRow for MachineClaim {
    const TABLE: &'static str = "machine_claims";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            machine_id: row.parsed("machine_id")?,
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
    /// The claim of a machine.
    pub async fn machine_claim(
        &self,
        machine: MachineId,
    ) -> Result<Option<MachineClaim>, StoreError> {
        const SQL: &str = "SELECT * FROM machine_claims WHERE machine_id = $1";
        self.first(sql(SQL).bind(machine)).await
    }

    /// Machines that nodes left and whose cleaning is due, oldest first.
    pub async fn machine_claims_to_clean(
        &self,
        now: Millis,
        limit: u32,
    ) -> Result<Vec<MachineClaim>, StoreError> {
        const SQL: &str = concat!(
            "SELECT * FROM machine_claims WHERE clean_after <= $1 AND cleaning_until <= $1 AND ",
            left_behind!(),
            " ORDER BY clean_after, machine_id LIMIT $2"
        );
        self.all(sql(SQL).bind(now).bind(limit)).await
    }
}

impl Tx {
    /// Assigns a machine to a node if it is free, is the node's already, or was left by a node that is gone and
    /// nobody cleans it now. `false` when another node has it.
    pub async fn claim_machine(
        &mut self,
        machine: MachineId,
        node: NodeId,
        now: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO machine_claims
                (machine_id, node_id, claimed_at, is_dirty, cleanings, clean_after, cleaning_until)
            VALUES ($1, $2, $3, 0, 0, 0, 0)
            ON CONFLICT (machine_id) DO UPDATE SET node_id = excluded.node_id, claimed_at = excluded.claimed_at,
                is_dirty = CASE WHEN machine_claims.node_id = excluded.node_id THEN machine_claims.is_dirty ELSE 1 END,
                cleanings = 0, clean_after = 0, cleaning_until = 0
            WHERE machine_claims.node_id = excluded.node_id
               OR (machine_claims.cleaning_until <= excluded.claimed_at AND EXISTS (SELECT 1 FROM nodes
                   WHERE nodes.id = machine_claims.node_id AND nodes.state IN ('failed', 'terminated')))";
        let stmt = sql(SQL).bind(machine).bind(node).bind(now);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Starts cleaning a machine that a node left; nobody else cleans or claims it before `until`. Returns the number
    /// of the attempt; `None` when another node has it or another attempt runs.
    pub async fn begin_cleaning(
        &mut self,
        claim: &MachineClaim,
        now: Millis,
        until: Millis,
    ) -> Result<Option<i64>, StoreError> {
        const SQL: &str = concat!(
            "UPDATE machine_claims SET cleanings = cleanings + 1, cleaning_until = $1
            WHERE machine_id = $2 AND node_id = $3 AND cleaning_until <= $4 AND ",
            left_behind!(),
            " RETURNING cleanings AS number"
        );
        let stmt = sql(SQL)
            .bind(until)
            .bind(claim.machine_id)
            .bind(claim.node_id)
            .bind(now);
        self.number(stmt).await
    }

    /// Records a failed attempt; the next one starts after `next`. `false` when another node has the machine.
    pub async fn put_off_cleaning(
        &mut self,
        claim: &MachineClaim,
        next: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE machine_claims SET clean_after = $1, cleaning_until = 0
            WHERE machine_id = $2 AND node_id = $3";
        let stmt = sql(SQL)
            .bind(next)
            .bind(claim.machine_id)
            .bind(claim.node_id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Releases a machine, so that any node may claim it. `false` when the node does not have it.
    pub async fn release_machine(
        &mut self,
        machine: MachineId,
        node: NodeId,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM machine_claims WHERE machine_id = $1 AND node_id = $2";
        Ok(self.execute(sql(SQL).bind(machine).bind(node)).await? == 1)
    }
}
