//! Writes the beats of many agents together: one statement per thousand nodes, at most twice a second.
//!
//! Only the newest beat of each node waits, so a slow database costs memory for one beat per node. The time of a beat is
//! when the host received it: the clock of an agent must not decide whether a node seems to be alive.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host_domain::heartbeat::NodeBeat;
use host_domain::ids::{AgentId, NodeId};
use host_domain::time::Millis;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::store::NodeStore;

const ROWS_MAX: usize = 1_000;
const NODES_WAITING_MAX: usize = 200_000;

/// Queues beats and writes them to the database.
#[derive(Default)]
pub(crate) struct BeatWriter {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    nodes: HashMap<NodeId, NodeBeat>,
    agents: HashMap<AgentId, Millis>,
}

impl BeatWriter {
    /// Queues an agent's beats; each replaces an older one of the same node that still waits.
    pub(crate) fn push(&self, agent_id: AgentId, at: Millis, beats: Vec<NodeBeat>) {
        let mut waiting = self.lock();
        let seen = waiting.agents.entry(agent_id).or_insert(at);
        *seen = (*seen).max(at);
        let mut dropped = 0;
        for beat in beats {
            let full = waiting.nodes.len() >= NODES_WAITING_MAX;
            if full && !waiting.nodes.contains_key(&beat.node_id) {
                dropped += 1;
            } else {
                waiting.nodes.insert(beat.node_id, beat);
            }
        }
        drop(waiting);
        if dropped > 0 {
            metrics::beats_dropped(dropped);
        }
        self.wake.notify_one();
    }

    /// Writes queued beats until `stop`, and then the rest.
    pub(crate) async fn run(
        &self,
        store: &(impl NodeStore + ?Sized),
        pause: Duration,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = stop.cancelled() => {}
            }
            self.flush(store).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(store).await;
    }

    async fn flush(&self, store: &(impl NodeStore + ?Sized)) {
        let Waiting { nodes, agents } = std::mem::take(&mut *self.lock());
        let rows: Vec<NodeBeat> = nodes.into_values().collect();
        let mut agents: Vec<(AgentId, Millis)> = agents.into_iter().collect();
        let mut written = 0;
        while written < rows.len() || !agents.is_empty() {
            let chunk = &rows[written..rows.len().min(written + ROWS_MAX)];
            if let Err(error) = store.record_beats(chunk, &agents).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    nodes = rows.len() - written,
                    "can't write beats to the database; retrying"
                );
                self.requeue(&rows[written..], &agents);
                return;
            }
            written += chunk.len();
            agents.clear();
        }
    }

    /// Queues beats again that were not written, unless newer ones came meanwhile.
    fn requeue(&self, rows: &[NodeBeat], agents: &[(AgentId, Millis)]) {
        let mut waiting = self.lock();
        for row in rows {
            waiting
                .nodes
                .entry(row.node_id)
                .or_insert_with(|| row.clone());
        }
        for (id, at) in agents {
            waiting.agents.entry(*id).or_insert(*at);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // No code panics while it holds the lock, and the maps are consistent after every statement.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::test_store::TestStore;

    fn beat(node: u128, at: i64) -> NodeBeat {
        NodeBeat {
            node_id: NodeId(Uuid::from_u128(node)),
            at: Millis(at),
            processes_json: "[]".to_owned(),
            processes_run: true,
        }
    }

    #[test]
    fn a_newer_beat_of_a_node_replaces_the_older() {
        let writer = BeatWriter::default();
        let agent = AgentId(Uuid::nil());
        writer.push(agent, Millis(1), vec![beat(1, 1), beat(2, 1)]);
        writer.push(agent, Millis(2), vec![beat(1, 2)]);
        let waiting = writer.lock();
        assert_eq!(waiting.nodes.len(), 2);
        assert_eq!(waiting.nodes[&NodeId(Uuid::from_u128(1))].at, Millis(2));
        assert_eq!(waiting.agents[&agent], Millis(2));
    }

    #[test]
    fn requeued_beats_do_not_replace_newer_ones() {
        let writer = BeatWriter::default();
        writer.push(AgentId(Uuid::nil()), Millis(2), vec![beat(1, 2)]);
        writer.requeue(&[beat(1, 1), beat(2, 1)], &[]);
        let waiting = writer.lock();
        assert_eq!(waiting.nodes[&NodeId(Uuid::from_u128(1))].at, Millis(2));
        assert_eq!(waiting.nodes[&NodeId(Uuid::from_u128(2))].at, Millis(1));
    }

    #[tokio::test]
    async fn beats_wait_until_the_database_takes_them() {
        let store = TestStore::default();
        let writer = BeatWriter::default();
        let agent = AgentId(Uuid::nil());
        writer.push(agent, Millis(1), vec![beat(1, 1)]);
        store.fail(true);
        writer.flush(&store).await;
        assert_eq!(store.beats(), []);
        writer.push(agent, Millis(2), vec![beat(2, 2)]);
        store.fail(false);
        writer.flush(&store).await;
        let mut written = store.beats();
        written.sort_by_key(|beat| beat.node_id);
        assert_eq!(written, [beat(1, 1), beat(2, 2)]);
        assert_eq!(store.seen_agents(), [(agent, Millis(2))]);
    }
}
