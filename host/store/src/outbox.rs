//! The outbox of health transitions: claimed with a lease, one event of a node at a time, and never lost.
//!
//! One statement serves both databases: on PostgreSQL a second claimer waits for the row's lock and then sees the
//! lease (PostgreSQL evaluates the outer condition again on the newest row), so `FOR UPDATE SKIP LOCKED` would only
//! save the wait.

use std::time::Duration;

use host_domain::event::HealthTransitionEvent;
use host_domain::ids::{EventId, NodeId};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, sql};

/// An event that a worker holds until its lease ends.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedEvent {
    /// Rises in insertion order; a node's events are handled in this order.
    pub seq: i64,
    /// The number of attempts, including this one.
    pub attempts: u32,
    /// Whether it was requeued from the dead letters: events that followed it may have been handled before.
    pub is_requeued: bool,
    /// The event.
    pub event: HealthTransitionEvent,
}

/// An event whose handling failed for good.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The event.
    pub event: HealthTransitionEvent,
    /// The number of attempts.
    pub attempts: u32,
    /// The error of the last attempt.
    pub error: String,
    /// When the host gave up.
    pub failed_at: Millis,
}

/// The lag of the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxLag {
    /// Waiting events.
    pub n_waiting: i64,
    /// Age of the oldest.
    pub oldest: Duration,
}

impl FromRow for ClaimedEvent {
    const TABLE: &'static str = "health_event_outbox";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            seq: row.int("seq")?,
            attempts: row.count("attempts")?,
            is_requeued: row.millis_opt("requeued_at")?.is_some(),
            event: row.json("event")?,
        })
    }
}

impl FromRow for DeadLetter {
    const TABLE: &'static str = "dead_letters";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            event: row.json("event")?,
            attempts: row.count("attempts")?,
            error: row.text("error")?,
            failed_at: row.millis("failed_at")?,
        })
    }
}

/// A dead letter and its place in the order.
struct NumberedDeadLetter(DeadLetter, i64);

impl FromRow for NumberedDeadLetter {
    const TABLE: &'static str = "dead_letters";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self(DeadLetter::from_row(row)?, row.int("seq")?))
    }
}

struct Lag(i64, Option<Millis>);

impl FromRow for Lag {
    const TABLE: &'static str = "health_event_outbox";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self(row.int("waiting")?, row.millis_opt("oldest")?))
    }
}

impl Reader {
    /// How many events wait and since when.
    pub async fn outbox_lag(&self, now: Millis) -> Result<OutboxLag, StoreError> {
        const SQL: &str = "SELECT count(*) AS waiting, min(at) AS oldest FROM health_event_outbox";
        let Some(Lag(n_waiting, oldest)) = self.first(sql(SQL)).await? else {
            return Ok(OutboxLag::default());
        };
        Ok(OutboxLag {
            n_waiting,
            oldest: oldest.map_or(Duration::ZERO, |at| now.since(at)),
        })
    }

    /// The number of dead letters.
    pub async fn n_dead_letters(&self) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM dead_letters";
        Ok(self.number(sql(SQL)).await?.unwrap_or(0))
    }

    /// The number of a node's dead letters.
    pub async fn n_dead_letters_of(&self, node: NodeId) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM dead_letters WHERE node_id = $1";
        Ok(self.number(sql(SQL).bind(node)).await?.unwrap_or(0))
    }

    /// Whether an event waits to be handled.
    pub async fn is_in_outbox(&self, id: EventId) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT count(*) AS number FROM health_event_outbox WHERE id = $1";
        Ok(self.number(sql(SQL).bind(id)).await? == Some(1))
    }

    /// Dead letters, newest first, before `before`.
    pub async fn list_dead_letters(
        &self,
        before: Option<EventId>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        const SQL: &str =
            "SELECT * FROM dead_letters WHERE ($1 IS NULL OR id < $1) ORDER BY id DESC LIMIT $2";
        self.all(sql(SQL).bind(before).bind(limit)).await
    }
}

impl Tx {
    /// Appends events in this order. Call it after the compare-and-swap of the nodes, whose locks determine the
    /// order.
    pub async fn insert_outbox(
        &mut self,
        events: &[HealthTransitionEvent],
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO health_event_outbox
            (id, node_id, at, event, due_at, attempts, claimed_until) VALUES {}";
        let row = |event: &HealthTransitionEvent| {
            let (id, node_id, at) = (event.id.into(), event.node_id.into(), event.at.into());
            let due_at = event.at.into();
            vec![
                id,
                node_id,
                at,
                json(event),
                due_at,
                0_i64.into(),
                0_i64.into(),
            ]
        };
        self.execute_list(SQL, events.iter().map(row).collect())
            .await
            .map_err(|error| error.taken("this event"))?;
        Ok(())
    }

    /// Claims the oldest event of up to `limit` nodes until `now + lease`. While an event of a node is unfinished,
    /// none of its later events is claimed.
    pub async fn claim_outbox(
        &mut self,
        worker: &str,
        now: Millis,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedEvent>, StoreError> {
        const SQL: &str = "UPDATE health_event_outbox
            SET claimed_by = $1, claimed_until = $2, attempts = attempts + 1
            WHERE claimed_until <= $3 AND seq IN (
                SELECT o.seq FROM health_event_outbox o
                WHERE o.due_at <= $3 AND o.claimed_until <= $3 AND NOT EXISTS (
                    SELECT 1 FROM health_event_outbox e WHERE e.node_id = o.node_id AND e.seq < o.seq)
                ORDER BY o.seq LIMIT $4)
            RETURNING seq, attempts, requeued_at, event";
        let stmt = sql(SQL)
            .bind(worker)
            .bind(now.plus(lease))
            .bind(now)
            .bind(limit);
        let mut claimed: Vec<ClaimedEvent> = self.all(stmt).await?;
        claimed.sort_by_key(|event| event.seq);
        Ok(claimed)
    }

    /// Deletes a handled event; `false` when it was deleted already.
    pub async fn finish_outbox(&mut self, id: EventId) -> Result<bool, StoreError> {
        const SQL: &str = "DELETE FROM health_event_outbox WHERE id = $1";
        Ok(self.execute(sql(SQL).bind(id)).await? == 1)
    }

    /// Releases a claimed event for a retry at `at`; `false` when another worker has it (`attempts` differs).
    pub async fn retry_outbox(
        &mut self,
        id: EventId,
        attempts: u32,
        at: Millis,
        error: &str,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE health_event_outbox
            SET due_at = $1, error = $2, claimed_by = NULL, claimed_until = 0 WHERE id = $3 AND attempts = $4";
        let stmt = sql(SQL).bind(at).bind(error).bind(id).bind(attempts);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Moves an event to the dead letters, so that its node's next event may follow. `false` when it does not exist.
    pub async fn to_dead_letter(
        &mut self,
        id: EventId,
        error: &str,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "INSERT INTO dead_letters (id, node_id, event, attempts, error, failed_at, seq)
            SELECT id, node_id, event, attempts, $1, $2, seq FROM health_event_outbox WHERE id = $3";
        self.execute(sql(SQL).bind(error).bind(at).bind(id)).await?;
        self.finish_outbox(id).await
    }

    /// Requeues a dead letter at its old place among its node's events, with no attempts; `None` when it does not
    /// exist.
    pub async fn requeue_dead_letter(
        &mut self,
        id: EventId,
        at: Millis,
    ) -> Result<Option<DeadLetter>, StoreError> {
        const TAKE: &str = "DELETE FROM dead_letters WHERE id = $1 RETURNING *";
        const BACK: &str = "INSERT INTO health_event_outbox
                (seq, id, node_id, at, event, attempts, due_at, claimed_until, requeued_at)
            VALUES ($1, $2, $3, $4, $5, 0, $6, 0, $6) ON CONFLICT DO NOTHING";
        const AT_THE_END: &str = "INSERT INTO health_event_outbox
                (id, node_id, at, event, attempts, due_at, claimed_until, requeued_at)
            VALUES ($1, $2, $3, $4, 0, $5, 0, $5)";
        let Some(NumberedDeadLetter(letter, seq)) = self.first(sql(TAKE).bind(id)).await? else {
            return Ok(None);
        };
        let event = &letter.event;
        let back = sql(BACK).bind(seq).bind(id).bind(event.node_id);
        let back = back.bind(event.at).bind(json(event)).bind(at);
        // After an import into another database, its old place may be taken.
        if self.execute(back).await? == 0 {
            let back = sql(AT_THE_END).bind(id).bind(event.node_id);
            let back = back.bind(event.at).bind(json(event)).bind(at);
            self.execute(back).await?;
        }
        Ok(Some(letter))
    }
}
