//! From the outbox to the event bus: the leader gives transitions on in their order, and what the bus does not take stays.
//!
//! A bus may lose what it has just taken when its server is killed. So what was taken is kept for a while, and all of it is
//! given again by a new leader and over each new link; the events' ids make that harmless.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::node::NodeState;
use host_domain::time::Millis;
use host_workflows::provision_node;
use tokio::sync::Mutex;

use super::{Pace, led};
use crate::app::App;
use crate::metrics;
use crate::ops::OpError;
use host_bus::{BusError, Consumer};
use host_store::{BusEvent, retried};

/// Events that are given at once.
const PAGE: u32 = 500;
/// How often it is measured how far everything is behind.
pub(crate) const MEASURED_EVERY: Duration = Duration::from_secs(10);

/// The tenure and the link for which everything that is kept was given again.
type GivenAgain = Option<(i64, u64)>;

/// Gives events on until the app ends.
pub(crate) async fn run(app: App) {
    let look_again = app.config.events.poll_interval;
    let given_again = Arc::new(Mutex::new(None));
    led(app, "event bus", Pace::OnChange(look_again), move |app| {
        let given_again = Arc::clone(&given_again);
        async move { round(&app, &mut *given_again.lock().await).await }
    })
    .await;
}

/// Gives everything that waits. A bus that is away is no error of the round: it says so itself, once.
async fn round(app: &App, given_again: &mut GivenAgain) -> Result<(), OpError> {
    let tenure = app.lead.borrow().as_ref().map(|fence| fence.epoch);
    let (Some(tenure), Some(link)) = (tenure, app.bus.link()) else {
        return Ok(());
    };
    if *given_again != Some((tenure, link)) {
        if !give_again(app).await? {
            return Ok(());
        }
        *given_again = Some((tenure, link));
    }
    loop {
        let waiting = app.db.waiting_bus_events(PAGE).await?;
        if waiting.is_empty() {
            return Ok(());
        }
        let n_taken = give(app, &waiting).await;
        settle(app, &waiting[..n_taken]).await?;
        if n_taken < waiting.len() {
            return Ok(());
        }
    }
}

/// Gives again what is kept, in the order in which it was taken; says whether all of it was.
async fn give_again(app: &App) -> Result<bool, OpError> {
    let mut after = (Millis(i64::MIN), i64::MIN);
    loop {
        let kept = app.db.sent_bus_events(after, PAGE).await?;
        let Some(last) = kept.last() else {
            return Ok(true);
        };
        after = (last.sent_at.unwrap_or(after.0), last.seq);
        if give(app, &kept).await < kept.len() {
            return Ok(false);
        }
    }
}

/// How many were taken.
async fn give(app: &App, events: &[BusEvent]) -> usize {
    let transitions: Vec<_> = events.iter().map(|row| row.event.clone()).collect();
    let given = app.bus.publish(&transitions).await;
    match given.refused {
        // Told by the bus.
        Some(BusError::Away | BusError::NotStored(_)) | None => {}
        Some(error @ BusError::NotTaken { .. }) => {
            tracing::warn!("{:#}", anyhow::Error::from(error));
        }
    }
    given.n_taken
}

/// Writes down what was taken, and forgets what was kept for long enough.
async fn settle(app: &App, taken: &[BusEvent]) -> Result<(), OpError> {
    if taken.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = taken.iter().map(|row| row.seq).collect();
    retried(|| async {
        let now = app.clock.now();
        let mut tx = app.db.begin().await?;
        tx.mark_bus_events_sent(&seqs, now).await?;
        // Where nothing is kept, what was just taken goes too.
        let before = now.minus(app.bus.keeps()).plus(Duration::from_millis(1));
        tx.prune_bus_events(before, 2 * PAGE).await?;
        Ok(tx.commit().await?)
    })
    .await
}

/// Tells workflows what they wait for: a hint, without which they look by themselves.
pub(crate) struct Workflows(pub(crate) App);

#[async_trait]
impl Consumer for Workflows {
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()> {
        if event.dimension == Dimension::State && event.after.state == NodeState::Healthy {
            let workflow = provision_node::workflow_id(event.node_id);
            self.0.hint(&workflow, provision_node::NODE_HEALTH).await;
        }
        Ok(())
    }
}

/// Shows how far both outboxes are behind, and how much was put aside.
pub(crate) async fn measure(app: App) -> Result<(), OpError> {
    let now = app.clock.now();
    let handling = app.db.outbox_lag(now).await?;
    let giving = app.db.bus_lag(now).await?;
    for (queue, lag) in [("transitions", handling), ("bus", giving)] {
        metrics::outbox(queue, lag.oldest.as_secs_f64(), lag.n_waiting);
    }
    metrics::dead_letters(app.db.n_dead_letters().await?);
    Ok(())
}
