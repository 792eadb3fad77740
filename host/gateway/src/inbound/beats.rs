//! Beats of an agent: the state of its nodes, and the leases of nodes with keys.

use host_domain::agent::Agent;
use host_domain::heartbeat::NodeBeat;
use host_domain::time::Millis;
use proto::v1;
use proto::v1::host_message::Message as ToAgent;
use tonic::Status;

use super::{ITEMS_MAX, Inbound, refuse_excess};
use crate::convert;
use crate::peer::{recheck, store_status};
use crate::scope::Scope;
use crate::shared::Shared;
use crate::store::StoreResult;

const PROCESSES_MAX: usize = 64;

impl Inbound<'_> {
    pub(super) async fn beat(&mut self, beat: v1::Beat) -> Result<(), Status> {
        recheck(self.shared, &mut self.peer).await?;
        // Taken before any read: a lease that this beat prolongs counts from here at the latest.
        let now = self.shared.now();
        let sequence = beat.sequence;
        let beats = node_beats(self.shared, &mut self.scope, beat, now).await;
        let beats = beats.map_err(|error| store_status(&error))?;
        let leased = beats.iter().map(|beat| beat.node_id);
        let leased = leased.filter(|id| self.scope.holds_keys(*id));
        let node_ids: Vec<String> = leased.map(|id| id.to_string()).collect();
        self.shared.beats.push(self.peer.agent.id, now, beats);
        // Only nodes with keys have leases.
        if node_ids.is_empty() {
            return Ok(());
        }
        let confirmed = v1::BeatConfirmed {
            sequence,
            lease_ms: self.shared.lease_ms(),
            node_ids,
        };
        self.queue.send(ToAgent::BeatConfirmed(confirmed)).await
    }
}

/// Stores a beat of a client without a session.
pub(crate) async fn single_beat(
    shared: &Shared,
    agent: &Agent,
    beat: v1::Beat,
) -> Result<(), Status> {
    let now = shared.now();
    let mut scope = Scope::new(agent.machine_id, now, shared.options.lease);
    let beats = node_beats(shared, &mut scope, beat, now).await;
    let beats = beats.map_err(|error| store_status(&error))?;
    shared.beats.push(agent.id, now, beats);
    Ok(())
}

async fn node_beats(
    shared: &Shared,
    scope: &mut Scope,
    beat: v1::Beat,
    now: Millis,
) -> StoreResult<Vec<NodeBeat>> {
    let mut beats = Vec::with_capacity(beat.nodes.len().min(ITEMS_MAX));
    refuse_excess("nodes", beat.nodes.len(), ITEMS_MAX);
    for mut status in beat.nodes.into_iter().take(ITEMS_MAX) {
        let Some(node_id) = scope.own(shared.store(), &status.node_id, now).await? else {
            continue;
        };
        status.processes.truncate(PROCESSES_MAX);
        let (processes_json, processes_run) = convert::processes(status.processes);
        beats.push(NodeBeat {
            node_id,
            at: now,
            processes_json,
            processes_run,
        });
    }
    Ok(beats)
}
