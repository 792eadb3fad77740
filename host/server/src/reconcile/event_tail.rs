//! Feeds live streams from the log: whatever any process committed is told here once, in order.

use std::sync::atomic::{AtomicI64, Ordering};

use host_domain::ids::NodeId;

use crate::app::App;
use crate::ops::{LiveEvent, OpError};

/// Rows that are read at once.
const PAGE: u32 = 500;

/// Tells everything after the last told number.
pub(crate) async fn round(app: App, told: &AtomicI64) -> Result<(), OpError> {
    loop {
        let rows = app
            .db
            .event_log_after(told.load(Ordering::Acquire), PAGE)
            .await?;
        let Some(newest) = rows.last().map(|row| row.seq) else {
            return Ok(());
        };
        for row in rows {
            // Only here it is learned that another host moved a node whose agent is connected to this one.
            let is_move = row.entry.kind == "node_transition";
            let moved = row.entry.node_id.filter(|_| is_move);
            if let Some(event) = LiveEvent::read(row) {
                app.events.send(event);
            }
            if let Some(node) = moved
                && !app.db.is_sqlite()
            {
                wake_agent_of(&app, node).await?;
            }
        }
        told.store(newest, Ordering::Release);
    }
}

/// Lets the agent of a node hear what it has to measure now, if it is connected here.
async fn wake_agent_of(app: &App, node: NodeId) -> Result<(), OpError> {
    let node = app.db.node(node).await?;
    let Some(host) = node.and_then(|node| node.placement.machine_id) else {
        return Ok(());
    };
    if let Some(agent) = app.db.agent_of_machine(host).await? {
        app.sessions.wake(agent.id);
    }
    Ok(())
}
