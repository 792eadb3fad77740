//! The evaluators' state of each node. Two writers share the row, so each write is a compare-and-swap on `version`.

use host_domain::health::{HealthTrack, HeartbeatSnapshot};
use host_domain::ids::NodeId;
use host_domain::node::{Node, Reason};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::nodes::{all_written, condition};
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// A node's health row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthRow {
    /// Since when heartbeats are expected.
    pub beats_expected_since: Millis,
    /// Consecutive evaluations with a missed heartbeat.
    pub consecutive_failures: u32,
    /// The number of received heartbeats at the newest evaluation with a missed one.
    pub beats_at_miss: i64,
    /// Reasons of the newest verdict, even before it takes effect.
    pub reasons: Vec<Reason>,
    /// Application health over time.
    pub track: HealthTrack,
    /// Optimistic lock.
    pub version: i64,
}

/// A node that policies judge, with the state of the previous tick.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedNode {
    /// The node.
    pub node: Node,
    /// Application health over time.
    pub track: HealthTrack,
    /// Optimistic lock of the health row.
    pub health_version: i64,
}

/// The heartbeat evaluator's counts of a node.
#[derive(Clone, Copy, Debug)]
pub struct CountedMisses {
    /// The node.
    pub node_id: NodeId,
    /// The version of the health row that the counts are based on.
    pub seen_version: i64,
    /// Consecutive evaluations with a missed heartbeat.
    pub consecutive_failures: u32,
    /// The number of received heartbeats at the newest of them.
    pub beats_at_miss: i64,
}

/// The policy evaluator's result for a node.
#[derive(Clone, Copy, Debug)]
pub struct FoundHealth<'a> {
    /// The node.
    pub node_id: NodeId,
    /// The version of the health row that the result is based on.
    pub seen_version: i64,
    /// Application health over time.
    pub track: &'a HealthTrack,
    /// Reasons of the newest verdict, even before it takes effect.
    pub verdict_reasons: &'a [Reason],
}

impl FromRow for HealthRow {
    const TABLE: &'static str = "node_health_state";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            beats_expected_since: row.millis("beats_expected_since")?,
            consecutive_failures: row.count("consecutive_failures")?,
            beats_at_miss: row.int("beats_at_miss")?,
            reasons: row.json("verdict_reasons")?,
            track: row.json("track")?,
            version: row.int("version")?,
        })
    }
}

impl FromRow for HeartbeatSnapshot {
    const TABLE: &'static str = "node_health_state";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        let expected_since = row.millis("beats_expected_since")?;
        Ok(Self {
            node_id: row.parsed("id")?,
            condition: condition(row)?,
            state_version: row.int("state_version")?,
            health_version: row.int("version")?,
            last_heartbeat: row
                .millis_opt("last_heartbeat")?
                .unwrap_or(expected_since)
                .max(expected_since),
            beats: row.int_opt("beats")?.unwrap_or(0),
            // Processes are unknown before the first heartbeat; only a report can say that one is lost.
            processes_run: row.int_opt("processes_run")? != Some(0),
            consecutive_failures: row.count("consecutive_failures")?,
            beats_at_miss: row.int("beats_at_miss")?,
        })
    }
}

impl FromRow for JudgedNode {
    const TABLE: &'static str = "node_health_state";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            node: Node::from_row(row)?,
            track: row.json("track")?,
            health_version: row.int("version")?,
        })
    }
}

impl Reader {
    /// A node's health row.
    pub async fn health_state(&self, node: NodeId) -> Result<Option<HealthRow>, StoreError> {
        const SQL: &str = "SELECT * FROM node_health_state WHERE node_id = $1";
        self.first(sql(SQL).bind(node)).await
    }

    /// The heartbeat snapshots of every node that must send heartbeats, by id, after `after`.
    pub async fn heartbeat_snapshots(
        &self,
        after: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<HeartbeatSnapshot>, StoreError> {
        const SQL: &str = "SELECT n.id, n.state, n.sync_status, n.application_health, n.state_version,
                h.beats_expected_since, h.consecutive_failures, h.beats_at_miss, h.version,
                b.last_heartbeat, b.beats, b.processes_run
            FROM nodes n JOIN node_health_state h ON h.node_id = n.id
                LEFT JOIN node_heartbeats b ON b.node_id = n.id
            WHERE n.state IN ('syncing', 'healthy', 'degraded', 'down') AND ($1 IS NULL OR n.id > $1)
            ORDER BY n.id LIMIT $2";
        self.all(sql(SQL).bind(after).bind(limit)).await
    }

    /// The nodes of a chain that policies judge, by id, after `after`.
    pub async fn judged_nodes(
        &self,
        chain: &str,
        after: Option<NodeId>,
        limit: u32,
    ) -> Result<Vec<JudgedNode>, StoreError> {
        const SQL: &str = "SELECT n.*, h.track, h.version
            FROM nodes n JOIN node_health_state h ON h.node_id = n.id
            WHERE n.chain_profile_id = $1 AND n.state IN ('syncing', 'healthy', 'degraded')
              AND ($2 IS NULL OR n.id > $2)
            ORDER BY n.id LIMIT $3";
        self.all(sql(SQL).bind(chain).bind(after).bind(limit)).await
    }
}

impl Tx {
    /// Every node has a health row from the start, so that no evaluator can miss one.
    pub(super) async fn insert_health_state(
        &mut self,
        node: NodeId,
        at: Millis,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO node_health_state (node_id, beats_expected_since,
                consecutive_failures, beats_at_miss, verdict_reasons, track, version)
            VALUES ($1, $2, 0, 0, '[]', $3, 1)";
        let stmt = sql(SQL)
            .bind(node)
            .bind(at)
            .bind(json(&HealthTrack::default()));
        self.execute(stmt).await?;
        Ok(())
    }

    /// Expects heartbeats from `since` on and clears earlier misses. `false` when the node does not exist.
    pub async fn expect_beats(&mut self, node: NodeId, since: Millis) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE node_health_state SET beats_expected_since = $1,
                consecutive_failures = 0, version = version + 1 WHERE node_id = $2";
        Ok(self.execute(sql(SQL).bind(since).bind(node)).await? == 1)
    }

    /// Stores the heartbeat evaluator's counts, of each node once; fails like [`Tx::set_conditions`] after a
    /// concurrent change.
    pub async fn save_misses(&mut self, counted: &[CountedMisses]) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE node_health_state SET consecutive_failures = counted.column3,
                beats_at_miss = counted.column4, version = version + 1
            FROM (VALUES {}) AS counted
            WHERE node_id = counted.column1 AND version = counted.column2 RETURNING node_id AS id";
        let row = |one: &CountedMisses| {
            let failures = one.consecutive_failures.into();
            let (id, version) = (one.node_id.into(), one.seen_version.into());
            vec![id, version, failures, one.beats_at_miss.into()]
        };
        let written = self
            .all_list(SQL, counted.iter().map(row).collect())
            .await?;
        all_written(counted.iter().map(|one| one.node_id), written)
    }

    /// Stores the policy evaluator's results, of each node once; fails like [`Tx::set_conditions`] after a concurrent
    /// change.
    pub async fn save_health_tracks(
        &mut self,
        found: &[FoundHealth<'_>],
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE node_health_state SET track = found.column3,
                verdict_reasons = found.column4, version = version + 1
            FROM (VALUES {}) AS found
            WHERE node_id = found.column1 AND version = found.column2 RETURNING node_id AS id";
        let row = |one: &FoundHealth<'_>| {
            let (id, version) = (one.node_id.into(), one.seen_version.into());
            vec![id, version, json(one.track), json(one.verdict_reasons)]
        };
        let written = self.all_list(SQL, found.iter().map(row).collect()).await?;
        all_written(found.iter().map(|one| one.node_id), written)
    }
}
