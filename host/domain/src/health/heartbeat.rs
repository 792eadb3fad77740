//! Evaluates missed heartbeats: from a snapshot and the time to a decision, without I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::node::{Condition, NodeEvent, NodeState, SyncStatus};
use crate::time::{Millis, duration_text};

/// When a silent node counts as down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// How often agents send a heartbeat.
    #[serde(with = "duration_text")]
    pub beat_interval: Duration,
    /// How often the host evaluates heartbeats.
    #[serde(with = "duration_text")]
    pub evaluation_interval: Duration,
    /// A heartbeat is missed when the last one is older than this.
    #[serde(with = "duration_text")]
    pub heartbeat_timeout: Duration,
    /// Consecutive evaluations with a missed heartbeat, after which the node is down.
    pub failures_for_down: u32,
    /// Consecutive heartbeats after which a node leaves `down`.
    pub recovery_beats: u32,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(15),
            evaluation_interval: Duration::from_secs(30),
            heartbeat_timeout: Duration::from_secs(45),
            failures_for_down: 3,
            recovery_beats: 2,
        }
    }
}

/// What the evaluator knows about a node.
#[derive(Clone, Debug, PartialEq)]
pub struct HeartbeatSnapshot {
    /// The node.
    pub node_id: NodeId,
    /// Its three dimensions.
    pub condition: Condition,
    /// Optimistic lock of the node's row.
    pub state_version: i64,
    /// Optimistic lock of the health row.
    pub health_version: i64,
    /// The newest heartbeat; before the first one, the time since which heartbeats are expected.
    pub last_heartbeat: Millis,
    /// The number of heartbeats ever received.
    pub beats: i64,
    /// Whether each process of the node ran at the newest heartbeat.
    pub processes_run: bool,
    /// Consecutive evaluations with a missed heartbeat.
    pub consecutive_failures: u32,
    /// `beats` at the newest evaluation with a missed heartbeat.
    pub beats_at_miss: i64,
}

/// The changes that an evaluation requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatDecision {
    /// The new number of consecutive evaluations with a missed heartbeat.
    pub consecutive_failures: u32,
    /// The new value of `beats` at the newest missed evaluation.
    pub beats_at_miss: i64,
    /// The transition to make, if any.
    pub event: Option<NodeEvent>,
}

/// Evaluates one node's heartbeats; `None` when nothing changes.
pub fn evaluate_heartbeat(
    snapshot: &HeartbeatSnapshot,
    now: Millis,
    config: &HeartbeatConfig,
) -> Option<HeartbeatDecision> {
    if !snapshot.condition.state.expects_beats() {
        return None;
    }
    let missed = now.since(snapshot.last_heartbeat) > config.heartbeat_timeout;
    let decision = if missed {
        on_missed(snapshot, config)
    } else {
        on_beat(snapshot, config)
    };
    let changes = decision.event.is_some()
        || decision.consecutive_failures != snapshot.consecutive_failures
        || decision.beats_at_miss != snapshot.beats_at_miss;
    changes.then_some(decision)
}

fn on_missed(snapshot: &HeartbeatSnapshot, config: &HeartbeatConfig) -> HeartbeatDecision {
    let is_down = snapshot.condition.state == NodeState::Down;
    // Counting on while the node is down would write a row per evaluation for nothing.
    let consecutive_failures = if is_down {
        snapshot.consecutive_failures
    } else {
        snapshot.consecutive_failures.saturating_add(1)
    };
    let goes_down = !is_down && consecutive_failures >= config.failures_for_down;
    HeartbeatDecision {
        consecutive_failures,
        beats_at_miss: snapshot.beats,
        event: goes_down.then_some(NodeEvent::BeatsMissed),
    }
}

fn on_beat(snapshot: &HeartbeatSnapshot, config: &HeartbeatConfig) -> HeartbeatDecision {
    let beats_since = snapshot.beats.saturating_sub(snapshot.beats_at_miss);
    let event = match (snapshot.condition.state, snapshot.processes_run) {
        (NodeState::Down, _) if beats_since < i64::from(config.recovery_beats) => {
            return HeartbeatDecision {
                consecutive_failures: snapshot.consecutive_failures,
                beats_at_miss: snapshot.beats_at_miss,
                event: None,
            };
        }
        (NodeState::Down, _) if snapshot.condition.sync_status == SyncStatus::Synced => {
            Some(NodeEvent::BeatsResumed)
        }
        (NodeState::Down, _) => Some(NodeEvent::BeatsResumedBehind),
        (NodeState::Syncing | NodeState::Healthy, false) => Some(NodeEvent::ProcessLost),
        (NodeState::Degraded, true) => Some(NodeEvent::ProcessRecovered),
        _ => None,
    };
    HeartbeatDecision {
        consecutive_failures: 0,
        beats_at_miss: snapshot.beats_at_miss,
        event,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::node::ApplicationHealth;

    fn node(state: NodeState) -> HeartbeatSnapshot {
        HeartbeatSnapshot {
            node_id: NodeId(Uuid::nil()),
            condition: Condition {
                state,
                sync_status: SyncStatus::Synced,
                application_health: ApplicationHealth::Ok,
            },
            state_version: 1,
            health_version: 1,
            last_heartbeat: Millis(1_000_000),
            beats: 10,
            processes_run: true,
            consecutive_failures: 0,
            beats_at_miss: 0,
        }
    }

    fn evaluate(snapshot: &HeartbeatSnapshot, silent_s: u64) -> Option<HeartbeatDecision> {
        let now = snapshot.last_heartbeat.plus(Duration::from_secs(silent_s));
        evaluate_heartbeat(snapshot, now, &HeartbeatConfig::default())
    }

    #[test]
    fn a_beat_within_the_timeout_changes_nothing() {
        assert_eq!(evaluate(&node(NodeState::Healthy), 45), None);
    }

    #[test]
    fn three_missed_evaluations_in_a_row_are_down() {
        let mut snapshot = node(NodeState::Healthy);
        for expected in [(1, None), (2, None), (3, Some(NodeEvent::BeatsMissed))] {
            let decision = evaluate(&snapshot, 46).unwrap();
            assert_eq!((decision.consecutive_failures, decision.event), expected);
            snapshot.consecutive_failures = decision.consecutive_failures;
        }
    }

    #[test]
    fn one_beat_resets_the_counter() {
        let decision = evaluate(
            &HeartbeatSnapshot {
                consecutive_failures: 2,
                ..node(NodeState::Healthy)
            },
            1,
        )
        .unwrap();
        assert_eq!((decision.consecutive_failures, decision.event), (0, None));
    }

    #[test]
    fn a_node_leaves_down_after_two_beats() {
        let down = |beats| HeartbeatSnapshot {
            beats,
            beats_at_miss: 10,
            consecutive_failures: 3,
            ..node(NodeState::Down)
        };
        assert_eq!(evaluate(&down(11), 1), None);
        assert_eq!(
            evaluate(&down(12), 1).unwrap().event,
            Some(NodeEvent::BeatsResumed)
        );
        let mut behind = down(12);
        behind.condition.sync_status = SyncStatus::Unknown;
        assert_eq!(
            evaluate(&behind, 1).unwrap().event,
            Some(NodeEvent::BeatsResumedBehind)
        );
    }

    #[test]
    fn beats_in_a_row_start_over_after_a_miss() {
        let snapshot = HeartbeatSnapshot {
            beats: 11,
            beats_at_miss: 10,
            consecutive_failures: 3,
            ..node(NodeState::Down)
        };
        assert_eq!(evaluate(&snapshot, 60).unwrap().beats_at_miss, 11);
    }

    #[test]
    fn a_lost_process_degrades_and_recovers() {
        let lost = HeartbeatSnapshot {
            processes_run: false,
            ..node(NodeState::Healthy)
        };
        assert_eq!(
            evaluate(&lost, 1).unwrap().event,
            Some(NodeEvent::ProcessLost)
        );
        assert_eq!(
            evaluate(&node(NodeState::Degraded), 1).unwrap().event,
            Some(NodeEvent::ProcessRecovered)
        );
    }

    #[test]
    fn states_without_beats_are_left_alone() {
        for state in [
            NodeState::Provisioning,
            NodeState::Maintenance,
            NodeState::Terminating,
            NodeState::Failed,
        ] {
            assert_eq!(evaluate(&node(state), 3_600), None, "{state}");
        }
    }

    #[test]
    fn every_decided_event_is_legal() {
        for state in NodeState::ALL {
            for silent_s in [0, 60] {
                for processes_run in [true, false] {
                    for beats in [10, 12] {
                        let snapshot = HeartbeatSnapshot {
                            processes_run,
                            beats,
                            beats_at_miss: 10,
                            consecutive_failures: 2,
                            ..node(*state)
                        };
                        if let Some(HeartbeatDecision {
                            event: Some(event), ..
                        }) = evaluate(&snapshot, silent_s)
                        {
                            state.next(event).unwrap();
                        }
                    }
                }
            }
        }
    }
}
