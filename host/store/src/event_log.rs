//! The live event log: numbered without gaps in commit order, so that "all rows after n" never misses one.
//!
//! An identity column numbers rows in insertion order, so a reader would skip a row that commits late. Therefore a
//! `Tx` collects entries and writes them just before its commit, under the lock of the head's only row. The lock is
//! always taken last and held briefly.

use host_domain::ids::NodeId;
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, Value, json, sql};

/// An entry to append.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLogEntry {
    /// When.
    pub at: Millis,
    /// `node_transition`, `node_event`, `incident`, `operation`, `plugin`, `subscription`.
    pub kind: String,
    /// The node that it is about.
    pub node_id: Option<NodeId>,
    /// The chain that it is about.
    pub chain: Option<String>,
    /// The payload as JSON.
    pub payload: serde_json::Value,
}

/// An entry with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Rises by one with each entry.
    pub seq: i64,
    /// The entry.
    pub entry: NewLogEntry,
}

impl FromRow for LogEntry {
    const TABLE: &'static str = "event_log";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            seq: row.int("seq")?,
            entry: NewLogEntry {
                at: row.millis("at")?,
                kind: row.text("kind")?,
                node_id: row.parsed_opt("node_id")?,
                chain: row.text_opt("chain")?,
                payload: row.json("payload")?,
            },
        })
    }
}

impl Reader {
    /// Entries after a number, in order.
    pub async fn event_log_after(&self, seq: i64, limit: u32) -> Result<Vec<LogEntry>, StoreError> {
        const SQL: &str = "SELECT * FROM event_log WHERE seq > $1 ORDER BY seq LIMIT $2";
        self.all(sql(SQL).bind(seq).bind(limit)).await
    }

    /// The newest number; 0 for an empty log.
    pub async fn event_log_last_seq(&self) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT seq AS number FROM event_log_head WHERE id = 1";
        Ok(self.number(sql(SQL)).await?.unwrap_or(0))
    }
}

impl Tx {
    /// Appends an entry when the transaction commits.
    pub fn append_event_log(&mut self, entry: NewLogEntry) {
        self.log.push(entry);
    }

    /// Deletes up to `limit` entries from before a time, oldest first, and returns their number.
    pub async fn prune_event_log(&mut self, before: Millis, limit: u32) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM event_log WHERE seq IN
            (SELECT seq FROM event_log WHERE at < $1 ORDER BY seq LIMIT $2)";
        self.execute(sql(SQL).bind(before).bind(limit)).await
    }

    pub(super) async fn write_event_log(&mut self) -> Result<(), StoreError> {
        const TAKE: &str =
            "UPDATE event_log_head SET seq = seq + $1 WHERE id = 1 RETURNING seq AS number";
        const SQL: &str =
            "INSERT INTO event_log (seq, at, kind, node_id, chain, payload) VALUES {}";
        let entries = std::mem::take(&mut self.log);
        let Ok(taken @ 1..) = i64::try_from(entries.len()) else {
            return Ok(());
        };
        let last = self.number(sql(TAKE).bind(taken)).await?.unwrap_or(taken);
        let row = |(entry, seq): (NewLogEntry, i64)| -> Vec<Value> {
            let chain = entry.chain.as_deref().into();
            let payload = json(&entry.payload);
            vec![
                seq.into(),
                entry.at.into(),
                entry.kind.into(),
                entry.node_id.into(),
                chain,
                payload,
            ]
        };
        let numbered = entries.into_iter().zip(last - taken + 1..);
        self.execute_list(SQL, numbered.map(row).collect()).await?;
        Ok(())
    }
}
