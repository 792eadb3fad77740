//! Which node has a machine of its own. The row of a machine is the only arbiter among nodes, and among machines of one
//! database: whoever wants it writes it, and waits for whoever is writing it.

use host_domain::claim::MachineClaim;
use host_domain::ids::{MachineId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

/// Whether the node of a claim has left the machine behind: it is no more, or a migration that has ended took it elsewhere, or
/// did not and could not give back what it had made. A machine that an open migration works on is not left.
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
    /// Who has a machine.
    pub async fn machine_claim(
        &self,
        machine: MachineId,
    ) -> Result<Option<MachineClaim>, StoreError> {
        const SQL: &str = "SELECT * FROM machine_claims WHERE machine_id = $1";
        self.first(sql(SQL).bind(machine)).await
    }

    /// Machines that nodes left behind whose time has come, those that wait for the longest time first.
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
    /// Gives a machine to a node: one that nobody has, that it has already, or that a node which is no more left behind
    /// and that nobody cleans at the moment. `false` when it is another's.
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

    /// Begins to clean a machine that a node left behind; nobody else does, or takes it, before `until`. Gives the number of
    /// the try; `None` when it is another's by now, or somebody is at it.
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

    /// Ends a try that did not clean the machine: nobody tries again before `next`. `false` when it is another's by now.
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

    /// Lets go of a machine, which anybody may claim from here on. `false` when the node does not have it.
    pub async fn release_machine(
        &mut self,
        machine: MachineId,
        node: NodeId,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM machine_claims WHERE machine_id = $1 AND node_id = $2";
        Ok(self.execute(sql(SQL).bind(machine).bind(node)).await? == 1)
    }
}
