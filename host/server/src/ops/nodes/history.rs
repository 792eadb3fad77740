//! What is known of a node's past: why it is as it is, what happened to it, what it was told and what was measured.

use host_domain::command::Command;
use host_domain::health::Sample;
use host_domain::ids::NodeId;
use host_domain::time::Millis;

use crate::app::App;
use crate::ops::{HealthExplanation, NodeEventRow, OpError, Page, PageRequest};

/// Most samples of one answer.
const SAMPLES_MAX: u32 = 5_000;

impl App {
    /// Why a node's health is what it is.
    pub async fn node_health(&self, id: NodeId) -> Result<HealthExplanation, OpError> {
        let node = self.existing_node(id).await?;
        let health = self.db.health_state(id).await?;
        let heartbeat = self.db.heartbeats(&[id]).await?.remove(&id);
        Ok(HealthExplanation {
            pending: health.as_ref().and_then(|health| health.track.pending),
            flapping: health.as_ref().is_some_and(|health| health.track.flapping),
            consecutive_failures: health
                .as_ref()
                .map_or(0, |health| health.consecutive_failures),
            reasons: health.map_or_else(|| node.reasons.clone(), |health| health.reasons),
            last_heartbeat: heartbeat.map(|row| row.last_heartbeat),
            latest: self.latest_of(id).await?,
            node,
        })
    }

    /// What happened to a node, newest first.
    pub async fn node_events(
        &self,
        id: NodeId,
        page: &PageRequest,
    ) -> Result<Page<NodeEventRow>, OpError> {
        self.existing_node(id).await?;
        let before: Option<String> = page.after()?;
        let rows = self
            .db
            .node_events(id, before.as_deref(), page.rows())
            .await?;
        Ok(Page::cut(rows, page, |row| row.id.clone()))
    }

    /// Commands to a node's agent, newest first.
    pub async fn node_commands(
        &self,
        id: NodeId,
        page: &PageRequest,
    ) -> Result<Page<Command>, OpError> {
        self.existing_node(id).await?;
        let rows = self
            .db
            .list_commands(id, page.after()?, page.rows())
            .await?;
        Ok(Page::cut(rows, page, |row| row.id.to_string()))
    }

    /// Samples of one observation in a time range, oldest first.
    pub async fn node_observations(
        &self,
        id: NodeId,
        name: &str,
        from: Millis,
        to: Millis,
        limit: u32,
    ) -> Result<Vec<Sample>, OpError> {
        self.existing_node(id).await?;
        Ok(self
            .db
            .samples(id, name, from, to, limit.min(SAMPLES_MAX))
            .await?)
    }
}
