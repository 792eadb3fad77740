//! Beats, many agents' at a time: one statement per thousand nodes, at most every half second.
//!
//! Only the newest beat of a node waits, so a slow database costs memory for one beat per node and no more. Times are
//! those of receipt: an agent with a wrong clock must not look alive or dead.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host_domain::ids::{AgentId, NodeId};
use host_domain::time::Millis;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use host_store::{BeatRow, Db, StoreError, retried};

const ROWS_MAX: usize = 1_000;
const NODES_WAITING_MAX: usize = 200_000;

/// Beats on their way to the database.
#[derive(Default)]
pub(super) struct BeatWriter {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Default)]
struct Waiting {
    nodes: HashMap<NodeId, BeatRow>,
    agents: HashMap<AgentId, Millis>,
}

impl BeatWriter {
    /// Takes an agent's beat; an older one of the same node that still waits is replaced.
    pub(super) fn push(&self, agent_id: AgentId, at: Millis, beats: Vec<BeatRow>) {
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
            metrics::counter!("gateway_beats_dropped_total").increment(dropped);
        }
        self.wake.notify_one();
    }

    /// Writes until `stop`, and then what still waits.
    pub(super) async fn run(&self, db: &Db, pause: Duration, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.wake.notified() => {}
                () = stop.cancelled() => {}
            }
            self.flush(db).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => {}
            }
        }
        self.flush(db).await;
    }

    async fn flush(&self, db: &Db) {
        let Waiting { nodes, agents } = std::mem::take(&mut *self.lock());
        let rows: Vec<BeatRow> = nodes.into_values().collect();
        let mut agents: Vec<(AgentId, Millis)> = agents.into_iter().collect();
        let mut written = 0;
        while written < rows.len() || !agents.is_empty() {
            let chunk = &rows[written..rows.len().min(written + ROWS_MAX)];
            if let Err(error) = retried(|| write(db, chunk, &agents)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    nodes = rows.len() - written,
                    "beats wait for the database"
                );
                self.put_back(&rows[written..], &agents);
                return;
            }
            written += chunk.len();
            agents.clear();
        }
    }

    /// What could not be written waits on, unless something newer came meanwhile.
    fn put_back(&self, rows: &[BeatRow], agents: &[(AgentId, Millis)]) {
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
        // No code panics while it holds the lock, and the maps are whole at every step.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn write(db: &Db, rows: &[BeatRow], agents: &[(AgentId, Millis)]) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    if !rows.is_empty() {
        tx.record_beats(rows).await?;
    }
    if !agents.is_empty() {
        tx.touch_agents(agents).await?;
    }
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn beat(node: u128, at: i64) -> BeatRow {
        BeatRow {
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
    fn what_is_put_back_does_not_hide_what_came_meanwhile() {
        let writer = BeatWriter::default();
        writer.push(AgentId(Uuid::nil()), Millis(2), vec![beat(1, 2)]);
        writer.put_back(&[beat(1, 1), beat(2, 1)], &[]);
        let waiting = writer.lock();
        assert_eq!(waiting.nodes[&NodeId(Uuid::from_u128(1))].at, Millis(2));
        assert_eq!(waiting.nodes[&NodeId(Uuid::from_u128(2))].at, Millis(1));
    }
}
