//! Judges heartbeats: snapshots in pages, a pure decision each, applied through the node machine.

use host_domain::health::{HeartbeatSnapshot, evaluate_heartbeat};
use host_domain::ids::NodeId;

use crate::app::App;
use crate::ops::{Change, OpError, change_node};
use crate::store::retried;

/// Nodes that are judged at once.
const PAGE: u32 = 500;

/// One round over the fleet.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let mut after: Option<NodeId> = None;
    loop {
        let page = app.db.heartbeat_snapshots(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = Some(last.node_id);
        for snapshot in &page {
            match retried(|| judge(&app, snapshot)).await {
                // Somebody was faster: the next round looks again.
                Ok(()) | Err(OpError::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

async fn judge(app: &App, snapshot: &HeartbeatSnapshot) -> Result<(), OpError> {
    let now = app.clock.now();
    let Some(decision) = evaluate_heartbeat(snapshot, now, &app.config.health.heartbeat) else {
        return Ok(());
    };
    let mut tx = app.db.begin().await?;
    let (failures, beats) = (decision.consecutive_failures, decision.beats_at_miss);
    tx.save_misses(snapshot.node_id, snapshot.health_version, failures, beats)
        .await?
        .ok_or_else(|| OpError::stale("node", snapshot.node_id))?;
    if let Some(event) = decision.event {
        let node = tx.node(snapshot.node_id).await?;
        let node = node.ok_or_else(|| OpError::not_found("node", snapshot.node_id))?;
        if node.state_version != snapshot.state_version {
            return Err(OpError::stale("node", snapshot.node_id));
        }
        change_node(&mut tx, &node, Change::event(event), now).await?;
    }
    tx.commit().await?;
    Ok(())
}
