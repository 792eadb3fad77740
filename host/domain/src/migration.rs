//! Node migration rules: when a node may move, how many may move at once, and when its keys may move.
//!
//! An unreachable agent's processes may still run. So a process that holds keys runs on a lease, which only the
//! host's answers renew; when the host has fenced an agent, it waits until every lease has expired.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{MachineId, NodeId, OperationId};
use crate::time::{Millis, duration_text};

/// How long a gateway may use what it read about a node, at most.
const VIEW_MAX: Duration = Duration::from_secs(30);
/// Fewer nodes than this never count as an outage.
const TOGETHER: u32 = 2;

/// When nodes are moved, and how long the host waits for the old process to stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationConfig {
    /// Whether the host moves nodes that are down without a request.
    pub automatic: bool,
    /// How long a node must be down.
    #[serde(with = "duration_text")]
    pub grace: Duration,
    /// The pause after a node migration or an attempt, before the node may move again.
    #[serde(with = "duration_text")]
    pub cooldown: Duration,
    /// The maximum of concurrent node migrations.
    pub max_concurrent: u32,
    /// Above this share of a region's nodes that are down at once, no node of the region is moved.
    pub breaker_percent: u32,
    /// How long a moved node must be healthy before the old machine is released.
    #[serde(with = "duration_text")]
    pub settle: Duration,
    /// How long a process that holds keys may run after the host's last answer.
    #[serde(with = "duration_text")]
    pub lease: Duration,
    /// The additional wait after the last lease, for clock drift.
    #[serde(with = "duration_text")]
    pub lease_margin: Duration,
}

impl Default for MigrationConfig {
    fn default() -> Self {
        Self {
            automatic: true,
            grace: Duration::from_mins(5),
            cooldown: Duration::from_hours(1),
            max_concurrent: 3,
            breaker_percent: 30,
            settle: Duration::from_mins(5),
            lease: Duration::from_mins(5),
            lease_margin: Duration::from_secs(15),
        }
    }
}

/// How long a gateway may use what it read about a node, so that it may still renew the lease of a fenced agent.
pub fn view_of(lease: Duration) -> Duration {
    VIEW_MAX.min(lease / 2)
}

/// When the last lease of a fenced agent has expired: a gateway may have read the node just before the fence and
/// renewed the lease at the end of its cache time.
pub fn fence_ends(taken_at: Millis, config: &MigrationConfig) -> Millis {
    let last_answer = taken_at.plus(view_of(config.lease));
    last_answer.plus(config.lease).plus(config.lease_margin)
}

/// One node migration, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMigration {
    /// The operation that shows it.
    pub operation_id: OperationId,
    /// The node.
    pub node_id: NodeId,
    /// The source machine.
    pub source: MachineId,
    /// The target machine, once chosen.
    pub target: Option<MachineId>,
    /// Whether a person forces it in spite of breaker and cooldown.
    pub is_forced: bool,
    /// When it was requested.
    pub triggered_at: Millis,
    /// The machine that was last fenced.
    pub fenced: Option<MachineId>,
    /// Since when that machine gets no leases.
    pub fenced_at: Option<Millis>,
    /// When it ended, successfully or not.
    pub ended_at: Option<Millis>,
    /// Whether the node has moved.
    pub has_moved: bool,
    /// Optimistic lock.
    pub version: i64,
}

/// Where nodes fail together: a region of a machine provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Region {
    /// The provider.
    pub provider: String,
    /// Its region.
    pub region: String,
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.provider, self.region)
    }
}

/// How many nodes of a region should run, and how many of them are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionHealth {
    /// Nodes that should run.
    pub nodes: u32,
    /// Those that are down.
    pub down: u32,
}

impl RegionHealth {
    /// Whether so many nodes are down at once that the cause is the network or this host, and not the nodes.
    pub fn is_outage(self, breaker_percent: u32) -> bool {
        let share = u64::from(self.down) * 100;
        self.down >= TOGETHER && share > u64::from(breaker_percent) * u64::from(self.nodes)
    }
}

/// What is known about a node that may have to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node_id: NodeId,
    /// Its region.
    pub region: Region,
    /// Since when it is down; `None` when it is not.
    pub down_since: Option<Millis>,
    /// When it was last moved, or an attempt started.
    pub last_triggered_at: Option<Millis>,
}

/// Why a node is not moved now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// The node is not down.
    #[error("the node is not down")]
    NotDown,
    /// It has not been down long enough.
    #[error("the node has not been down for `migration.grace`")]
    Grace,
    /// It was moved recently.
    #[error("the last node migration of this node was less than `migration.cooldown` ago")]
    Cooldown,
    /// Too many nodes of its region are down at once.
    #[error(
        "more than `migration.breaker_percent` of the nodes of its region are down at once, which looks like an outage"
    )]
    Breaker,
    /// Too many node migrations run.
    #[error("`migration.max_concurrent` node migrations are running already")]
    Concurrency,
}

/// Whether the host may move a node now; `n_active` is the number of running node migrations.
pub fn may_move(
    candidate: &Candidate,
    region: RegionHealth,
    n_active: u32,
    now: Millis,
    config: &MigrationConfig,
) -> Result<(), Held> {
    let down_since = candidate.down_since.ok_or(Held::NotDown)?;
    if now.since(down_since) < config.grace {
        return Err(Held::Grace);
    }
    let is_cooling = |at: Millis| now.since(at) < config.cooldown;
    if candidate.last_triggered_at.is_some_and(is_cooling) {
        return Err(Held::Cooldown);
    }
    if region.is_outage(config.breaker_percent) {
        return Err(Held::Breaker);
    }
    if n_active >= config.max_concurrent {
        return Err(Held::Concurrency);
    }
    Ok(())
}

/// The nodes to move now: those that have been down longest first, up to the limit.
pub fn choose(
    candidates: &[Candidate],
    regions: &BTreeMap<Region, RegionHealth>,
    n_active: u32,
    now: Millis,
    config: &MigrationConfig,
) -> Vec<NodeId> {
    let mut oldest_first: Vec<&Candidate> = candidates.iter().collect();
    oldest_first.sort_by_key(|candidate| (candidate.down_since, candidate.node_id));
    let mut chosen = Vec::new();
    for candidate in oldest_first {
        let region = regions.get(&candidate.region).copied().unwrap_or_default();
        let n_chosen = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
        let n_active = n_active.saturating_add(n_chosen);
        if may_move(candidate, region, n_active, now, config).is_ok() {
            chosen.push(candidate.node_id);
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
