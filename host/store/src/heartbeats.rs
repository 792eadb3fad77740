//! Heartbeats: one row per node, written in batches.

use std::collections::BTreeMap;

use host_domain::heartbeat::NodeBeat;
use host_domain::ids::NodeId;
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, Value, sql};

/// The heartbeat row of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The node.
    pub node_id: NodeId,
    /// The newest heartbeat.
    pub last_heartbeat: Millis,
    /// The number of received heartbeats.
    pub beats: i64,
    /// The node's processes at the newest heartbeat, as JSON.
    pub processes_json: String,
    /// Whether each of them ran.
    pub processes_run: bool,
}

impl FromRow for Heartbeat {
    const TABLE: &'static str = "node_heartbeats";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            node_id: row.parsed("node_id")?,
            last_heartbeat: row.millis("last_heartbeat")?,
            beats: row.int("beats")?,
            processes_json: row.text("processes")?,
            processes_run: row.flag("processes_run")?,
        })
    }
}

impl Reader {
    /// A node's heartbeat row; `None` before the first heartbeat.
    pub async fn heartbeat(&self, node: NodeId) -> Result<Option<Heartbeat>, StoreError> {
        const SQL: &str = "SELECT * FROM node_heartbeats WHERE node_id = $1";
        self.first(sql(SQL).bind(node)).await
    }

    /// The heartbeat rows of several nodes, without those that have none.
    pub async fn heartbeats(
        &self,
        nodes: &[NodeId],
    ) -> Result<BTreeMap<NodeId, Heartbeat>, StoreError> {
        const SQL: &str = "SELECT * FROM node_heartbeats WHERE node_id IN (VALUES {})";
        let ids = nodes.iter().map(|node| vec![(*node).into()]).collect();
        let found: Vec<Heartbeat> = self.all_list(SQL, ids).await?;
        Ok(found.into_iter().map(|row| (row.node_id, row)).collect())
    }
}

impl Tx {
    /// Counts heartbeats and stores the newest of each node. A heartbeat that is older than the stored one is only
    /// counted.
    pub async fn record_beats(&mut self, beats: &[NodeBeat]) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO node_heartbeats (node_id, last_heartbeat, beats, processes, processes_run)
            VALUES {} ON CONFLICT (node_id) DO UPDATE SET
                beats = node_heartbeats.beats + excluded.beats,
                processes = CASE WHEN excluded.last_heartbeat >= node_heartbeats.last_heartbeat
                    THEN excluded.processes ELSE node_heartbeats.processes END,
                processes_run = CASE WHEN excluded.last_heartbeat >= node_heartbeats.last_heartbeat
                    THEN excluded.processes_run ELSE node_heartbeats.processes_run END,
                last_heartbeat = CASE WHEN excluded.last_heartbeat >= node_heartbeats.last_heartbeat
                    THEN excluded.last_heartbeat ELSE node_heartbeats.last_heartbeat END";
        // PostgreSQL rejects a statement that touches a row twice; the order by id prevents a deadlock of two
        // writers.
        let mut of_node: BTreeMap<NodeId, (i64, &NodeBeat)> = BTreeMap::new();
        for beat in beats {
            let (count, newest) = of_node.entry(beat.node_id).or_insert((0, beat));
            *count += 1;
            if beat.at >= newest.at {
                *newest = beat;
            }
        }
        let row = |(id, (count, newest)): (NodeId, (i64, &NodeBeat))| -> Vec<Value> {
            let processes = Value::from(&newest.processes_json);
            vec![
                id.into(),
                newest.at.into(),
                count.into(),
                processes,
                newest.processes_run.into(),
            ]
        };
        self.execute_list(SQL, of_node.into_iter().map(row).collect())
            .await?;
        Ok(())
    }
}
