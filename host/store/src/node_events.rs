//! The history of nodes for people, which is append-only.

use std::collections::BTreeSet;

use host_domain::ids::NodeId;
use host_domain::node_event::NodeEventEntry;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, sql};

impl FromRow for NodeEventEntry {
    const TABLE: &'static str = "node_events";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.text("id")?,
            node_id: row.parsed("node_id")?,
            at: row.millis("at")?,
            kind: row.text("kind")?,
            message: row.text("message")?,
        })
    }
}

/// The id of a newly inserted event.
struct NewEvent(String);

impl FromRow for NewEvent {
    const TABLE: &'static str = "node_events";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        row.text("id").map(Self)
    }
}

impl Reader {
    /// A node's events, newest first, before `before`.
    pub async fn node_events(
        &self,
        node: NodeId,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<NodeEventEntry>, StoreError> {
        const SQL: &str = "SELECT * FROM node_events WHERE node_id = $1 AND ($2 IS NULL OR id < $2)
            ORDER BY id DESC LIMIT $3";
        self.all(sql(SQL).bind(node).bind(before).bind(limit)).await
    }
}

impl Tx {
    /// Appends events and returns the ids of new ones; an event with a known id stays unchanged.
    pub async fn append_node_events(
        &mut self,
        events: &[NodeEventEntry],
    ) -> Result<BTreeSet<String>, StoreError> {
        const SQL: &str = "INSERT INTO node_events (id, node_id, at, kind, message)
            VALUES {} ON CONFLICT (id) DO NOTHING RETURNING id";
        let row = |event: &NodeEventEntry| {
            let (kind, message) = ((&event.kind).into(), (&event.message).into());
            vec![
                (&event.id).into(),
                event.node_id.into(),
                event.at.into(),
                kind,
                message,
            ]
        };
        let new: Vec<NewEvent> = self.all_list(SQL, events.iter().map(row).collect()).await?;
        Ok(new.into_iter().map(|NewEvent(id)| id).collect())
    }
}
