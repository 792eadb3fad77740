//! What evaluators know of each node's health. Two writers share the row, so each write is a compare-and-swap on `version`.

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
    /// Since when beats are expected.
    pub beats_expected_since: Millis,
    /// Evaluations in a row that found a beat missed.
    pub consecutive_failures: u32,
    /// Beats ever received, at the newest evaluation that found one missed.
    pub beats_at_miss: i64,
    /// Reasons of the newest verdict, whether it counts yet or not.
    pub reasons: Vec<Reason>,
    /// Application health over time.
    pub track: HealthTrack,
    /// Optimistic lock.
    pub version: i64,
}

/// A node that policies judge, with what they left behind at the tick before.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedNode {
    /// The node.
    pub node: Node,
    /// Application health over time.
    pub track: HealthTrack,
    /// Optimistic lock of the health row.
    pub health_version: i64,
}

/// What the heartbeat evaluator counted of a node.
#[derive(Clone, Copy, Debug)]
pub struct CountedMisses {
    /// The node.
    pub node_id: NodeId,
    /// The version of the health row that this was counted on.
    pub seen_version: i64,
    /// Evaluations in a row that found a beat missed.
    pub consecutive_failures: u32,
    /// Beats ever received, at the newest of them.
    pub beats_at_miss: i64,
}

/// What the policy evaluator found of a node.
#[derive(Clone, Copy, Debug)]
pub struct FoundHealth<'a> {
    /// The node.
    pub node_id: NodeId,
    /// The version of the health row that this was found on.
    pub seen_version: i64,
    /// Application health over time.
    pub track: &'a HealthTrack,
    /// Reasons of the newest verdict, whether it counts yet or not.
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
            // Nothing is known of processes before the first beat; only a report can say that one is lost.
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

    /// What the heartbeat evaluator needs of every node that has to beat, by id, beginning behind `after`.
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

    /// The nodes of a chain that policies judge, by id, beginning behind `after`.
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
    /// Every node has a health row from its first moment, so that no evaluator can overlook one.
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

    /// From now on the node has to beat: what was missed before does not count. `false` when there is no such node.
    pub async fn expect_beats(&mut self, node: NodeId, since: Millis) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE node_health_state SET beats_expected_since = $1,
                consecutive_failures = 0, version = version + 1 WHERE node_id = $2";
        Ok(self.execute(sql(SQL).bind(since).bind(node)).await? == 1)
    }

    /// Keeps what the heartbeat evaluator counted, of each node once; as [`Tx::set_conditions`] when somebody was faster.
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

    /// Keeps what the policy evaluator found, of each node once; as [`Tx::set_conditions`] when somebody was faster.
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
