//! Writes observations to the database: one transaction for the batches of several agents.
//!
//! The queue is bounded: when the database is slow, sessions wait, and their agents thin out observations. Writing is
//! idempotent by node, name and time, so an agent can repeat what the gateway did not acknowledge.

use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::observation::Observation;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::events::ObservationUpdate;
use crate::metrics;
use crate::store::NodeStore;

const QUEUE: usize = 256;
const ROWS_MAX: usize = 4_000;

/// The sending side of the queue.
pub(crate) struct Ingester {
    queue: mpsc::Sender<Batch>,
}

/// The receiving side of the queue, for [`run`].
pub(crate) struct IngestQueue {
    queue: mpsc::Receiver<Batch>,
}

struct Batch {
    updates: Vec<Arc<ObservationUpdate>>,
    is_stored: oneshot::Sender<bool>,
}

/// Observations were not stored; the agent keeps them and sends them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IngestError;

impl Ingester {
    pub(crate) fn new() -> (Self, IngestQueue) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { queue: sender }, IngestQueue { queue: receiver })
    }

    /// Returns when the observations are committed.
    pub(crate) async fn store(
        &self,
        updates: Vec<Arc<ObservationUpdate>>,
    ) -> Result<(), IngestError> {
        if updates.is_empty() {
            return Ok(());
        }
        let (is_stored, answer) = oneshot::channel();
        self.queue
            .send(Batch { updates, is_stored })
            .await
            .map_err(|_| IngestError)?;
        match answer.await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(IngestError),
        }
    }
}

/// Stores batches until `stop`. The gateway does not acknowledge the rest, so agents send it again.
pub(crate) async fn run(
    mut queue: IngestQueue,
    store: &(impl NodeStore + ?Sized),
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
        let result = store.insert_observations(&rows(&batches)).await;
        if let Err(error) = &result {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                rows = n_rows,
                "can't write observations to the database; agents send them again"
            );
        }
        for batch in batches {
            // A session that ended meanwhile does not wait for the answer.
            let _session_ended = batch.is_stored.send(result.is_ok());
        }
        metrics::observations(n_rows as u64);
    }
}

fn n_observations(batch: &Batch) -> usize {
    batch
        .updates
        .iter()
        .map(|update| update.observations.len())
        .sum()
}

fn rows(batches: &[Batch]) -> Vec<(NodeId, Observation)> {
    let updates = batches.iter().flat_map(|batch| &batch.updates);
    let rows = updates.flat_map(|update| {
        let observations = update.observations.iter();
        observations.map(|observation| (update.node_id, observation.clone()))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use host_domain::observation::Scalar;
    use host_domain::time::Millis;
    use uuid::Uuid;

    use super::*;
    use crate::test_store::TestStore;

    fn update(height: i64) -> Arc<ObservationUpdate> {
        Arc::new(ObservationUpdate {
            node_id: NodeId(Uuid::nil()),
            chain: None,
            observations: vec![Observation {
                name: "node.height".to_owned(),
                value: Scalar::Int(height),
                at: Millis(height),
            }],
        })
    }

    #[tokio::test]
    async fn observations_are_acknowledged_only_when_they_are_stored() {
        let store = TestStore::default();
        let (ingester, queue) = Ingester::new();
        let stop = CancellationToken::new();
        let agent = async {
            assert_eq!(ingester.store(vec![update(1)]).await, Ok(()));
            assert_eq!(store.n_observations(), 1);
            store.fail(true);
            assert_eq!(ingester.store(vec![update(2)]).await, Err(IngestError));
            assert_eq!(store.n_observations(), 1);
            assert_eq!(ingester.store(Vec::new()).await, Ok(()));
            stop.cancel();
        };
        tokio::join!(run(queue, &store, &stop), agent);
        assert_eq!(ingester.store(vec![update(3)]).await, Err(IngestError));
    }
}
