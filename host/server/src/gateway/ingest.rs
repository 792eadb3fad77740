//! Observations on their way to the database: one transaction for what several agents sent, and a word when it is done.
//!
//! The queue is bounded: when the database is slow, sessions wait, their agents notice and thin out. Storing is
//! idempotent by node, name and time, so what was not acknowledged may come again.

use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::observation::Observation;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use host_store::{Db, StoreError, retried};

const QUEUE: usize = 256;
const ROWS_MAX: usize = 4_000;
const FEED: usize = 1_024;

/// What was stored of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct ObservationUpdate {
    /// The node.
    pub node_id: NodeId,
    /// Its chain.
    pub chain: Option<String>,
    /// Its new observations.
    pub observations: Vec<Observation>,
}

/// Stored observations, live. A reader that is too slow loses the oldest; the database has them.
#[derive(Clone)]
pub struct ObservationFeed {
    sender: broadcast::Sender<Arc<ObservationUpdate>>,
}

impl ObservationFeed {
    /// A feed without readers.
    pub fn new() -> Self {
        Self {
            sender: broadcast::Sender::new(FEED),
        }
    }

    /// Reads from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<ObservationUpdate>> {
        self.sender.subscribe()
    }

    fn show(&self, update: &Arc<ObservationUpdate>) {
        // An error says that nobody reads, which is fine.
        let _nobody_reads = self.sender.send(Arc::clone(update));
    }
}

impl Default for ObservationFeed {
    fn default() -> Self {
        Self::new()
    }
}

/// The way in.
pub(super) struct Ingester {
    queue: mpsc::Sender<Batch>,
}

/// The way on: what [`run`] works through.
pub(super) struct IngestQueue {
    queue: mpsc::Receiver<Batch>,
}

struct Batch {
    updates: Vec<Arc<ObservationUpdate>>,
    stored: oneshot::Sender<bool>,
}

/// Observations were not stored; the agent keeps them and sends them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotStored;

impl Ingester {
    pub(super) fn new() -> (Self, IngestQueue) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { queue: sender }, IngestQueue { queue: receiver })
    }

    /// Comes back when everything is committed.
    pub(super) async fn store(
        &self,
        updates: Vec<Arc<ObservationUpdate>>,
    ) -> Result<(), NotStored> {
        if updates.is_empty() {
            return Ok(());
        }
        let (stored, answer) = oneshot::channel();
        self.queue
            .send(Batch { updates, stored })
            .await
            .map_err(|_| NotStored)?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(NotStored),
        }
    }
}

/// Stores batches until `stop`; what still waits then is not acknowledged and comes again.
pub(super) async fn run(
    mut queue: IngestQueue,
    db: &Db,
    feed: &ObservationFeed,
    stop: &CancellationToken,
) {
    loop {
        let first = tokio::select! {
            batch = queue.queue.recv() => batch,
            () = stop.cancelled() => None,
        };
        let Some(first) = first else { return };
        let mut n_rows = n_observations(&first);
        let mut batches = vec![first];
        while n_rows < ROWS_MAX
            && let Ok(batch) = queue.queue.try_recv()
        {
            n_rows += n_observations(&batch);
            batches.push(batch);
        }
        let result = retried(|| write(db, &batches)).await;
        if let Err(error) = &result {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                rows = n_rows,
                "observations could not be stored; their agents send them again"
            );
        }
        for batch in batches {
            if result.is_ok() {
                batch.updates.iter().for_each(|update| feed.show(update));
            }
            // A session that ended meanwhile does not wait for the answer.
            let _session_gone = batch.stored.send(result.is_ok());
        }
        metrics::counter!("gateway_observations_total").increment(n_rows as u64);
    }
}

fn n_observations(batch: &Batch) -> usize {
    batch
        .updates
        .iter()
        .map(|update| update.observations.len())
        .sum()
}

async fn write(db: &Db, batches: &[Batch]) -> Result<(), StoreError> {
    let rows: Vec<(NodeId, Observation)> = batches
        .iter()
        .flat_map(|batch| &batch.updates)
        .flat_map(|update| {
            update
                .observations
                .iter()
                .map(|item| (update.node_id, item.clone()))
        })
        .collect();
    let mut tx = db.begin().await?;
    tx.insert_observations(&rows).await?;
    tx.commit().await
}
