//! From the outbox to the event bus: the leader publishes transitions in their order, and keeps those that the bus rejects.
//!
//! A bus may lose events that it has just stored when its server is killed. So published events are kept for a while, and a new
//! leader publishes them again, also over each new connection; the events' ids make that harmless.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host_domain::event::{Dimension, HealthTransitionEvent};
use host_domain::node::NodeState;
use host_domain::time::Millis;
use host_workflows::provision_node;
use tokio::sync::{Mutex, watch};

use super::loops::{Loop, Pace};
use crate::metrics;
use crate::ops::{OpError, Records, WorkflowEngine};
use crate::services::Services;
use host_bus::{Bus, BusError, Consumer};
use host_store::{BusEvent, Fence, Role, retried};

/// Events that are published at once.
const PAGE: u32 = 500;

/// The tenure and the connection for which all kept events were published again.
type Republished = Option<(i64, u64)>;

/// Publishes the events of the outbox, on the leader.
pub(super) fn publish(services: &Services) -> Loop {
    let publisher = Publisher {
        bus: services.bus.clone(),
        lead: services.lead.subscribe(),
    };
    let republished = Arc::new(Mutex::new(None));
    let pace = Pace::OnChange(services.config.events.poll_interval);
    Loop::leader("event bus", pace, move |records| {
        let (publisher, republished) = (publisher.clone(), Arc::clone(&republished));
        async move {
            let mut republished = republished.lock().await;
            publisher.round(&records, &mut republished).await
        }
    })
}

#[derive(Clone)]
struct Publisher {
    bus: Bus,
    lead: watch::Receiver<Option<Fence>>,
}

impl Publisher {
    /// Publishes everything that waits. An unavailable bus is no error of the round: the bus logs it once.
    async fn round(&self, records: &Records, republished: &mut Republished) -> Result<(), OpError> {
        let tenure = self.lead.borrow().as_ref().map(|fence| fence.epoch);
        let (Some(tenure), Some(link)) = (tenure, self.bus.link()) else {
            return Ok(());
        };
        if *republished != Some((tenure, link)) {
            if !self.republish(records).await? {
                return Ok(());
            }
            *republished = Some((tenure, link));
        }
        loop {
            let waiting = records.db.waiting_bus_events(PAGE).await?;
            if waiting.is_empty() {
                return Ok(());
            }
            let n_taken = self.publish(&waiting).await;
            self.settle(records, &waiting[..n_taken]).await?;
            if n_taken < waiting.len() {
                return Ok(());
            }
        }
    }

    /// Publishes the kept events again, in their order; returns whether the bus stored all of them.
    async fn republish(&self, records: &Records) -> Result<bool, OpError> {
        let mut after = (Millis(i64::MIN), i64::MIN);
        loop {
            let kept = records.db.sent_bus_events(after, PAGE).await?;
            let Some(last) = kept.last() else {
                return Ok(true);
            };
            after = (last.sent_at.unwrap_or(after.0), last.seq);
            if self.publish(&kept).await < kept.len() {
                return Ok(false);
            }
        }
    }

    /// Returns how many events the bus stored.
    async fn publish(&self, events: &[BusEvent]) -> usize {
        let transitions: Vec<_> = events.iter().map(|row| row.event.clone()).collect();
        let given = self.bus.publish(&transitions).await;
        match given.refused {
            // Told by the bus.
            Some(BusError::Away | BusError::NotStored(_)) | None => {}
            Some(error @ BusError::NotTaken { .. }) => {
                tracing::warn!("{:#}", anyhow::Error::from(error));
            }
        }
        given.n_taken
    }

    /// Marks events as published, and deletes those that were kept for long enough.
    async fn settle(&self, records: &Records, taken: &[BusEvent]) -> Result<(), OpError> {
        if taken.is_empty() {
            return Ok(());
        }
        let seqs: Vec<i64> = taken.iter().map(|row| row.seq).collect();
        retried(|| async {
            let now = records.now();
            let mut tx = records.db.begin().await?;
            tx.mark_bus_events_sent(&seqs, now).await?;
            // Where nothing is kept, what was just taken goes too.
            let before = now.minus(self.bus.keeps()).plus(Duration::from_millis(1));
            tx.prune_bus_events(before, 2 * PAGE).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Wakes the workflows that wait for a node; workflows also poll.
struct WorkflowSignals(WorkflowEngine);

#[async_trait]
impl Consumer for WorkflowSignals {
    async fn take(&self, event: &HealthTransitionEvent) -> anyhow::Result<()> {
        if event.dimension == Dimension::State && event.after.state == NodeState::Healthy {
            let workflow = provision_node::workflow_id(event.node_id);
            self.0.signal(&workflow, provision_node::NODE_HEALTH).await;
        }
        Ok(())
    }
}

/// Subscribes the workflows of this host to the bus.
pub(crate) fn attach_workflows(services: &Services) {
    let signals = WorkflowSignals(services.engine.clone());
    services.bus.attach("workflows", Arc::new(signals));
}

/// Measures the lag of both outboxes, on every host.
pub(super) fn measure_lags(_: &Services) -> Loop {
    let period = Duration::from_secs(10);
    Loop::everyone(
        "measures",
        Role::Health,
        Pace::Every(period),
        |records| async move { measure(&records).await },
    )
}

/// Shows how far both outboxes are behind, and how much was put aside.
async fn measure(records: &Records) -> Result<(), OpError> {
    let now = records.now();
    let handling = records.db.outbox_lag(now).await?;
    let giving = records.db.bus_lag(now).await?;
    for (queue, lag) in [("transitions", handling), ("bus", giving)] {
        metrics::outbox(queue, lag.oldest.as_secs_f64(), lag.n_waiting);
    }
    metrics::dead_letters(records.db.n_dead_letters().await?);
    Ok(())
}
