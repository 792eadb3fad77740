//! Evaluates heartbeats: snapshots in pages, a pure decision each, applied in batches through the node state machine.

use std::collections::BTreeMap;

use host_domain::health::{
    HeartbeatConfig, HeartbeatDecision, HeartbeatSnapshot, evaluate_heartbeat,
};
use host_domain::ids::NodeId;
use host_domain::node::NodeEvent;
use host_domain::time::Millis;

use super::in_batches;
use super::loops::{Loop, Pace};
use crate::ops::{Change, OpError, Records, change_nodes};
use crate::services::Services;
use host_store::CountedMisses;

/// Nodes that are evaluated at once.
const PAGE: u32 = 500;

/// Evaluates heartbeats, on the leader.
pub(super) fn heartbeats(services: &Services) -> Loop {
    let config = services.config.health.heartbeat.clone();
    let pace = Pace::Every(config.evaluation_interval);
    Loop::leader("heartbeats", pace, move |records| {
        let config = config.clone();
        async move { round(&records, &config).await }
    })
}

/// One round over the fleet.
pub(super) async fn round(records: &Records, config: &HeartbeatConfig) -> Result<(), OpError> {
    let mut after: Option<NodeId> = None;
    loop {
        let page = records.db.heartbeat_snapshots(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.node_id);
        let now = records.now();
        let decided: Vec<_> = page
            .iter()
            .filter_map(|snapshot| Some((snapshot, evaluate_heartbeat(snapshot, now, config)?)))
            .collect();
        in_batches(&decided, |batch| apply(records, batch, now)).await?;
    }
}

async fn apply(
    records: &Records,
    decided: &[(&HeartbeatSnapshot, HeartbeatDecision)],
    now: Millis,
) -> Result<(), OpError> {
    let counted: Vec<_> = decided
        .iter()
        .map(|(snapshot, decision)| CountedMisses {
            node_id: snapshot.node_id,
            seen_version: snapshot.health_version,
            consecutive_failures: decision.consecutive_failures,
            beats_at_miss: decision.beats_at_miss,
        })
        .collect();
    let moving: BTreeMap<NodeId, (i64, NodeEvent)> = decided
        .iter()
        .filter_map(|(snapshot, decision)| {
            Some((snapshot.node_id, (snapshot.state_version, decision.event?)))
        })
        .collect();
    let mut tx = records.db.begin().await?;
    tx.save_misses(&counted).await?;
    let ids: Vec<_> = moving.keys().copied().collect();
    let nodes = tx.nodes(&ids).await?;
    let mut changes = Vec::with_capacity(nodes.len());
    for (id, (seen_version, event)) in moving {
        let node = nodes
            .get(&id)
            .ok_or_else(|| OpError::not_found("node", id))?;
        if node.state_version != seen_version {
            return Err(OpError::stale("node", id));
        }
        changes.push((node, Change::event(event)));
    }
    change_nodes(&mut tx, changes, now).await?;
    tx.commit().await?;
    Ok(())
}
