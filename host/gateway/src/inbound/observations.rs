//! Batches of observations: what the collectors of an agent measured, and which of them failed.

use std::sync::Arc;

use host_domain::ids::NodeId;
use host_domain::time::Millis;
use proto::v1;
use tonic::Status;

use super::{ITEMS_MAX, Inbound, refuse_excess};
use crate::convert;
use crate::events::{CollectorFailure, ObservationUpdate};
use crate::peer::store_status;
use crate::session::run_hook;

const OBSERVATIONS_MAX: usize = 1_000;

/// A batch that waits for the database, and the number by which the agent knows it.
pub(crate) struct Batch {
    pub(crate) sequence: u64,
    pub(crate) updates: Vec<Arc<ObservationUpdate>>,
}

impl Inbound<'_> {
    pub(super) async fn observations(&mut self, batch: v1::ObservationBatch) -> Result<(), Status> {
        let mut updates = Vec::new();
        refuse_excess("collections", batch.collections.len(), ITEMS_MAX);
        for collection in batch.collections.into_iter().take(ITEMS_MAX) {
            updates.extend(self.collection(collection).await?);
        }
        let batch = Batch {
            sequence: batch.sequence,
            updates,
        };
        // Waits when too many of the agent's batches wait: the session stops reading, and the agent notices.
        let queued = self.batches.send(batch).await;
        queued.map_err(|_| Status::cancelled("the session is ending"))
    }

    /// Reads one run of a collector; `None` when it has no valid observations of an own node.
    async fn collection(
        &mut self,
        mut collection: v1::Collection,
    ) -> Result<Option<Arc<ObservationUpdate>>, Status> {
        let now = self.shared.now();
        let store = self.shared.store();
        let own = self.scope.own(store, &collection.node_id, now).await;
        let Some(node_id) = own.map_err(|error| store_status(&error))? else {
            return Ok(None);
        };
        let at = Millis(collection.at_ms);
        let received = std::mem::take(&mut collection.observations);
        let n_received = received.len();
        let received = received.into_iter().take(OBSERVATIONS_MAX);
        let observations: Vec<_> = received
            .filter_map(|item| convert::observation(item, at, now))
            .collect();
        refuse_excess("observations", n_received, observations.len());
        self.report_collector(node_id, collection).await;
        if observations.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(ObservationUpdate {
            node_id,
            chain: self.scope.chain_of(node_id).map(str::to_owned),
            observations,
        })))
    }

    async fn report_collector(&self, node_id: NodeId, collection: v1::Collection) {
        let events = &self.shared.parts.events;
        let collector = convert::label(collection.collector);
        if collection.error.is_empty() {
            let handled = events.collector_worked(node_id, &collector);
            run_hook("collector_worked", handled).await;
            return;
        }
        let failure = CollectorFailure {
            node_id,
            collector,
            plugin_fault: collection.plugin_fault,
            is_paused: collection.paused,
            error: convert::collector_error(collection.error),
            at: Millis(collection.at_ms),
        };
        let handled = events.collector_failed(failure);
        run_hook("collector_failed", handled).await;
    }
}
