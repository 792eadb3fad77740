//! Moving a node to another machine: when it may, how many at once, and from when on nobody else has its keys
//! (design: domain.md, Migration).
//!
//! An agent may be cut off while what it started lives on. So a process that holds keys runs on a lease, which only the
//! host's answers prolong; when the host has taken a node away from an agent it waits until no lease can be left.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalars::DurationText;
use crate::ids::{MachineId, NodeId, OperationId};
use crate::time::{Millis, duration_text};

/// What an agent is known to have is believed for this long at most.
const VIEW_MAX: Duration = Duration::from_secs(30);
/// Fewer nodes than this are never down *together*.
const TOGETHER: u32 = 2;

/// Migration of nodes to other machines, and the leases that keep a node's keys from being used on two machines at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationConfig {
    /// Whether the host migrates nodes that are down. Operators can always migrate a node by hand.
    pub automatic: bool,
    /// How long a node must be down before the host migrates it.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub grace: Duration,
    /// Pause after a migration of a node, or an attempt, before the host migrates the same node again.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub cooldown: Duration,
    /// Most migrations that run at the same time.
    pub max_concurrent: u32,
    /// The host migrates no node of a machine provider's region while more than this percentage of the region's nodes are down.
    pub breaker_percent: u32,
    /// How long a migrated node must be healthy before the host releases the old machine.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub settle: Duration,
    /// How long a process that holds keys may run after the agent last heard from a host; at least four times `health.heartbeat.beat_interval`.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub lease: Duration,
    /// How long the host waits after the last lease has ended, for clocks that differ.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
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

/// How long a gateway may believe what it read about a node, so that it may still answer for one that was taken away.
pub fn view_of(lease: Duration) -> Duration {
    VIEW_MAX.min(lease / 2)
}

/// From when on no lease is left of an agent that a node was taken from: a gateway may have believed what it had read a
/// moment before, and have prolonged the lease at the end of that belief.
pub fn fence_ends(taken_at: Millis, config: &MigrationConfig) -> Millis {
    let last_answer = taken_at.plus(view_of(config.lease));
    last_answer.plus(config.lease).plus(config.lease_margin)
}

/// One migration of a node, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeMigration {
    /// The operation that shows it.
    pub operation_id: OperationId,
    /// The node.
    pub node_id: NodeId,
    /// The machine that it leaves.
    pub source: MachineId,
    /// The machine that takes it, once it is chosen.
    pub target: Option<MachineId>,
    /// Whether a person wants it in spite of breaker and cooldown.
    pub is_forced: bool,
    /// When it was asked for.
    pub triggered_at: Millis,
    /// The machine that the node was last taken away from.
    pub fenced: Option<MachineId>,
    /// From when on that machine gets no more leases.
    pub fenced_at: Option<Millis>,
    /// When it ended, either way.
    pub ended_at: Option<Millis>,
    /// Whether the node has moved.
    pub has_moved: bool,
    /// Optimistic lock.
    pub version: i64,
}

/// Where nodes fail together: a provider and a region of it.
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
    /// Whether so many are down together that it is the network or us, and not the nodes.
    pub fn is_outage(self, breaker_percent: u32) -> bool {
        let share = u64::from(self.down) * 100;
        self.down >= TOGETHER && share > u64::from(breaker_percent) * u64::from(self.nodes)
    }
}

/// What is known of a node that may have to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node_id: NodeId,
    /// Where it is.
    pub region: Region,
    /// Since when it is down; `None` when it is not.
    pub down_since: Option<Millis>,
    /// When it was last moved, or should have been.
    pub last_triggered_at: Option<Millis>,
}

/// Why a node is not moved now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// It is not down.
    #[error("the node is not down")]
    NotDown,
    /// It is not down for long enough.
    #[error("the node is not down for long enough yet")]
    Grace,
    /// It was moved a moment ago.
    #[error("the node was moved, or should have been, a moment ago (`migration.cooldown`)")]
    Cooldown,
    /// Too many of its region are down together.
    #[error(
        "so many nodes of its region are down together that none is moved (`migration.breaker_percent`)"
    )]
    Breaker,
    /// As many as may be are on their way.
    #[error("as many nodes as may be are being moved already (`migration.max_concurrent`)")]
    Concurrency,
}

/// Whether a node may be moved by itself now; `n_active` are those that are on their way.
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

/// Which nodes are moved now: those that are down for the longest time first, as many as there is room for.
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
