//! The history of a node: its health and why, its events, its commands and its observations.

use std::collections::BTreeMap;

use host_domain::command::Command;
use host_domain::health::Sample;
use host_domain::ids::NodeId;
use host_domain::node::{ApplicationHealth, Node, Reason};
use host_domain::observation::Observation;
use host_domain::time::Millis;

use super::{NodeEventRow, Nodes};
use crate::ops::{OpError, Page, PageRequest};

/// Most samples of one answer.
const SAMPLES_MAX: u32 = 5_000;

/// Why a node's health is what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthExplanation {
    /// The node.
    pub node: Node,
    /// Reasons of the newest verdict, whether it counts yet or not.
    pub reasons: Vec<Reason>,
    /// A health that is seen but does not count yet, and since when.
    pub pending: Option<(ApplicationHealth, Millis)>,
    /// Whether it is held at its worst because it changes too often.
    pub flapping: bool,
    /// Evaluations in a row that found a beat missed.
    pub consecutive_failures: u32,
    /// The newest beat.
    pub last_heartbeat: Option<Millis>,
    /// The newest observations.
    pub latest: BTreeMap<String, Observation>,
}

impl Nodes {
    /// Why a node's health is what it is.
    pub async fn health(&self, node: Node) -> Result<HealthExplanation, OpError> {
        let id = node.id;
        let health = self.records.db.health_state(id).await?;
        let heartbeat = self.records.db.heartbeats(&[id]).await?.remove(&id);
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
    pub async fn events(
        &self,
        id: NodeId,
        page: &PageRequest,
    ) -> Result<Page<NodeEventRow>, OpError> {
        let before: Option<String> = page.after()?;
        let rows = self
            .records
            .db
            .node_events(id, before.as_deref(), page.rows())
            .await?;
        Ok(Page::cut(rows, page, |row| row.id.clone()))
    }

    /// Commands to a node's agent, newest first.
    pub async fn commands(&self, id: NodeId, page: &PageRequest) -> Result<Page<Command>, OpError> {
        let rows = self
            .records
            .db
            .list_commands(id, page.after()?, page.rows())
            .await?;
        Ok(Page::cut(rows, page, |row| row.id.to_string()))
    }

    /// Samples of one observation in a time range, oldest first.
    pub async fn observations(
        &self,
        id: NodeId,
        name: &str,
        from: Millis,
        to: Millis,
        limit: u32,
    ) -> Result<Vec<Sample>, OpError> {
        Ok(self
            .records
            .db
            .samples(id, name, from, to, limit.min(SAMPLES_MAX))
            .await?)
    }
}
