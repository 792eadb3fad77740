//! Events of nodes' processes: stored once by their ids, then reported to the host.

use proto::v1;
use proto::v1::host_message::Message as ToAgent;
use tonic::Status;

use super::{ITEMS_MAX, Inbound, refuse_excess};
use crate::convert;
use crate::peer::store_status;
use crate::session::run_hook;

impl Inbound<'_> {
    pub(super) async fn events(&mut self, batch: v1::NodeEventBatch) -> Result<(), Status> {
        let (store, now) = (self.shared.store(), self.shared.now());
        let ids: Vec<String> = batch.events.iter().map(|event| event.id.clone()).collect();
        let mut entries = Vec::new();
        refuse_excess("events", batch.events.len(), ITEMS_MAX);
        for event in batch.events.into_iter().take(ITEMS_MAX) {
            let own = self.scope.own(store, &event.node_id, now).await;
            let Some(node_id) = own.map_err(|error| store_status(&error))? else {
                continue;
            };
            match convert::node_event(event, node_id, now) {
                Some(entry) => {
                    let chain = self.scope.chain_of(node_id).map(str::to_owned);
                    entries.push((entry, chain));
                }
                None => refuse_excess("events", 1, 0),
            }
        }
        if !entries.is_empty() {
            let stored = store.append_node_events(&entries, now).await;
            stored.map_err(|error| store_status(&error))?;
        }
        for (entry, _) in entries {
            let handled = self.shared.parts.events.node_event(entry);
            run_hook("node_event", handled).await;
        }
        let stored = v1::EventsStored { ids };
        self.queue.send(ToAgent::EventsStored(stored)).await
    }
}
