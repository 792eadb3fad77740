//! Feeds live streams from the event log: every commit of any host is sent once, in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use host_domain::ids::NodeId;

use super::loops::{Loop, Pace};
use crate::ops::{LiveEvent, LiveEvents, OpError, Records};
use crate::services::Services;
use host_gateway::Sessions;
use host_store::Role;

/// Rows that are read at once.
const PAGE: u32 = 500;

/// Feeds the live streams of this process, on every host.
pub(super) async fn event_tail(services: &Services) -> Result<Loop, OpError> {
    // Before the first round, so that no commit after startup is lost.
    let newest = services.records(Role::Api).db.event_log_last_seq().await?;
    let tail = EventTail {
        live: services.live.clone(),
        sessions: services.agents.sessions.clone(),
        sent: Arc::new(AtomicI64::new(newest)),
    };
    let pace = Pace::OnChange(services.config.events.poll_interval);
    let round = move |records: Records| {
        let tail = tail.clone();
        async move { tail.round(&records).await }
    };
    Ok(Loop::everyone("event tail", Role::Api, pace, round))
}

#[derive(Clone)]
struct EventTail {
    live: LiveEvents,
    sessions: Sessions,
    /// The number of the last event that was sent.
    sent: Arc<AtomicI64>,
}

impl EventTail {
    /// Sends everything after the last sent number.
    async fn round(&self, records: &Records) -> Result<(), OpError> {
        loop {
            let rows = records
                .db
                .event_log_after(self.sent.load(Ordering::Acquire), PAGE)
                .await?;
            let Some(newest) = rows.last().map(|row| row.seq) else {
                return Ok(());
            };
            for row in rows {
                // Another host may have changed a node whose agent is connected to this one.
                let is_move = row.entry.kind == "node_transition";
                let moved = row.entry.node_id.filter(|_| is_move);
                if let Some(event) = LiveEvent::read(row) {
                    self.live.send(event);
                }
                if let Some(node) = moved
                    && !records.db.is_sqlite()
                {
                    self.wake_agent_of(records, node).await?;
                }
            }
            self.sent.store(newest, Ordering::Release);
        }
    }

    /// Sends the agent of a node its assignments again, if it is connected to this host.
    async fn wake_agent_of(&self, records: &Records, node: NodeId) -> Result<(), OpError> {
        let node = records.db.node(node).await?;
        let Some(machine) = node.and_then(|node| node.placement.machine_id) else {
            return Ok(());
        };
        if let Some(agent) = records.db.agent_of_machine(machine).await? {
            self.sessions.wake(agent.id);
        }
        Ok(())
    }
}
