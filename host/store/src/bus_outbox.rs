//! The outbox of the event bus: transitions in order, and for a while those that the bus has accepted, for
//! republication.
//!
//! Only the leader publishes, so nothing claims rows: a row waits until it is marked as sent.

use std::time::Duration;

use host_domain::event::HealthTransitionEvent;
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::outbox::OutboxLag;
use super::sql::{BadColumn, FromRow, Row, Value, json, sql};

/// A transition for the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct BusEvent {
    /// Rises in insertion order.
    pub seq: i64,
    /// When the bus accepted it.
    pub sent_at: Option<Millis>,
    /// The transition.
    pub event: HealthTransitionEvent,
}

impl FromRow for BusEvent {
    const TABLE: &'static str = "bus_outbox";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            seq: row.int("seq")?,
            sent_at: row.millis_opt("sent_at")?,
            event: row.json("event")?,
        })
    }
}

struct Lag(i64, Option<Millis>);

impl FromRow for Lag {
    const TABLE: &'static str = "bus_outbox";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self(row.int("waiting")?, row.millis_opt("oldest")?))
    }
}

impl Reader {
    /// Events that the bus has not accepted, oldest first.
    pub async fn waiting_bus_events(&self, limit: u32) -> Result<Vec<BusEvent>, StoreError> {
        const SQL: &str = "SELECT * FROM bus_outbox WHERE sent_at IS NULL ORDER BY seq LIMIT $1";
        self.all(sql(SQL).bind(limit)).await
    }

    /// Events that the bus accepted, in that order, after the event that it accepted at `after`.
    pub async fn sent_bus_events(
        &self,
        after: (Millis, i64),
        limit: u32,
    ) -> Result<Vec<BusEvent>, StoreError> {
        const SQL: &str = "SELECT * FROM bus_outbox WHERE sent_at IS NOT NULL
            AND (sent_at > $1 OR (sent_at = $1 AND seq > $2)) ORDER BY sent_at, seq LIMIT $3";
        self.all(sql(SQL).bind(after.0).bind(after.1).bind(limit))
            .await
    }

    /// How many events wait for the bus and since when.
    pub async fn bus_lag(&self, now: Millis) -> Result<OutboxLag, StoreError> {
        const SQL: &str =
            "SELECT count(*) AS waiting, min(at) AS oldest FROM bus_outbox WHERE sent_at IS NULL";
        let Some(Lag(n_waiting, oldest)) = self.first(sql(SQL)).await? else {
            return Ok(OutboxLag::default());
        };
        Ok(OutboxLag {
            n_waiting,
            oldest: oldest.map_or(Duration::ZERO, |at| now.since(at)),
        })
    }
}

impl Tx {
    /// Queues an event for the bus when the transaction commits; an event that is queued already stays unchanged.
    pub async fn insert_bus_event(
        &mut self,
        event: &HealthTransitionEvent,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO bus_outbox (id, at, event) VALUES ($1, $2, $3)
            ON CONFLICT (id) DO NOTHING";
        let stmt = sql(SQL).bind(event.id).bind(event.at).bind(json(event));
        self.execute(stmt).await?;
        Ok(())
    }

    /// Marks waiting events as accepted by the bus.
    pub async fn mark_bus_events_sent(
        &mut self,
        seqs: &[i64],
        at: Millis,
    ) -> Result<u64, StoreError> {
        const SQL: &str =
            "UPDATE bus_outbox SET sent_at = $1 WHERE sent_at IS NULL AND seq IN (VALUES {})";
        if seqs.is_empty() {
            return Ok(0);
        }
        let rows = seqs.iter().map(|seq| vec![Value::from(*seq)]);
        self.execute(sql(SQL).bind(at).list(rows)).await
    }

    /// Deletes up to `limit` events that the bus accepted before a time, and returns their number.
    pub async fn prune_bus_events(
        &mut self,
        before: Millis,
        limit: u32,
    ) -> Result<u64, StoreError> {
        const SQL: &str = "DELETE FROM bus_outbox WHERE seq IN
            (SELECT seq FROM bus_outbox WHERE sent_at < $1 ORDER BY sent_at, seq LIMIT $2)";
        self.execute(sql(SQL).bind(before).bind(limit)).await
    }
}
