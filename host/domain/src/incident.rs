//! Incidents: problems that people are notified of, once per cause.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::IncidentId;
use crate::node::{ApplicationHealth, Condition, NodeState, Reason};
use crate::text_enum::text_enum;
use crate::time::Millis;

/// A resolved incident that recurs within this time is reopened; later it is a new one.
pub const REOPEN_WITHIN: Duration = Duration::from_mins(10);

text_enum! {
    /// How severe an incident is.
    Severity {
        /// Worth knowing.
        Info = "info",
        /// Needs attention today.
        Warning = "warning",
        /// Needs attention now.
        Critical = "critical",
    }
}

text_enum! {
    /// The state of an incident.
    IncidentState {
        /// Nobody has acknowledged it.
        Open = "open",
        /// A person acknowledged it.
        Acknowledged = "acknowledged",
        /// Nobody acknowledged it in time.
        Escalated = "escalated",
        /// Over.
        Resolved = "resolved",
    }
}

text_enum! {
    /// What happens to an incident; also the kind of a row of its history.
    IncidentEvent {
        /// The cause occurred for the first time.
        Opened = "opened",
        /// The cause occurred again before the incident was resolved; counted without a notification.
        Repeated = "repeated",
        /// The cause occurred again soon after the incident was resolved.
        Reopened = "reopened",
        /// A person acknowledged it.
        Acknowledged = "acknowledged",
        /// Nobody acknowledged it in time.
        Escalated = "escalated",
        /// The cause is gone.
        Resolved = "resolved",
    }
}

text_enum! {
    /// What an incident is about.
    SubjectKind {
        /// A blockchain node.
        Node = "node",
        /// A plugin.
        Plugin = "plugin",
        /// A machine.
        Machine = "machine",
    }
}

/// The categories that the host raises itself; plugins add `x-<plugin>-<name>`.
pub mod category {
    /// The agent is silent.
    pub const NODE_DOWN: &str = "node_down";
    /// A process does not run, or a policy reports `degraded`.
    pub const NODE_DEGRADED: &str = "node_degraded";
    /// A policy reports `critical`.
    pub const NODE_CRITICAL: &str = "node_critical";
    /// Health changes too often.
    pub const NODE_FLAPPING: &str = "node_flapping";
    /// Provisioning failed.
    pub const PROVISION_FAILED: &str = "provision_failed";
    /// A node could not be moved to another machine.
    pub const MIGRATION_FAILED: &str = "migration_failed";
    /// Too many nodes of a region are down at once, so none is moved.
    pub const MIGRATION_HELD: &str = "migration_held";
    /// A machine that its node left behind could not be released.
    pub const MACHINE_LEFT_BEHIND: &str = "machine_left_behind";
    /// A node's agent does not come back.
    pub const AGENT_SILENT: &str = "agent_silent";
    /// A workflow made no progress for too long.
    pub const WORKFLOW_STALLED: &str = "workflow_stalled";
    /// A policy failed.
    pub const POLICY_ERROR: &str = "policy_error";
    /// Another plugin failed.
    pub const PLUGIN_ERROR: &str = "plugin_error";
    /// The host rejected a change of the configuration folder.
    pub const CONFIG_REJECTED: &str = "config_rejected";
    /// An event could not be handled.
    pub const EVENT_DEAD_LETTER: &str = "event_dead_letter";

    /// The prefix of the categories of policies' own incidents.
    pub const OWN_PREFIX: &str = "x-";

    /// Whether a category ends with its node, because policies do not judge nodes that are gone.
    pub fn ends_with_the_node(category: &str) -> bool {
        matches!(category, NODE_FLAPPING | MIGRATION_FAILED | AGENT_SILENT)
            || category.starts_with(OWN_PREFIX)
    }

    /// The categories that follow from a node's condition alone.
    pub const OF_CONDITION: [&str; 3] = [NODE_DOWN, NODE_DEGRADED, NODE_CRITICAL];
}

/// The key of an incident: another cause with the same key adds to `occurrences`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IncidentKey {
    /// What it is about.
    pub subject_kind: SubjectKind,
    /// The subject's id: a node id, a machine id, or a plugin's name.
    pub subject_id: String,
    /// The category.
    pub category: String,
}

/// A cause of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What happened.
    pub category: String,
    /// Its severity.
    pub severity: Severity,
    /// One line for people.
    pub title: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// An incident as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// UUID v7.
    pub id: IncidentId,
    /// What it is about.
    pub key: IncidentKey,
    /// The subject's name, for people.
    pub subject_name: String,
    /// Labels that routes match: `chain`, `node_type`.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its severity.
    pub severity: Severity,
    /// Its state.
    pub state: IncidentState,
    /// One line for people.
    pub title: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// How often its cause occurred.
    pub occurrences: u32,
    /// When it was first opened.
    pub opened_at: Millis,
    /// When its state last changed.
    pub updated_at: Millis,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// When it was resolved.
    pub resolved_at: Option<Millis>,
    /// Optimistic lock.
    pub version: i64,
}

/// The event that a cause triggers, given the newest incident of its key.
pub fn on_cause(existing: Option<(IncidentState, Option<Millis>)>, now: Millis) -> IncidentEvent {
    match existing {
        Some((IncidentState::Open | IncidentState::Acknowledged | IncidentState::Escalated, _)) => {
            IncidentEvent::Repeated
        }
        Some((IncidentState::Resolved, Some(at))) if now.since(at) < REOPEN_WITHIN => {
            IncidentEvent::Reopened
        }
        Some((IncidentState::Resolved, _)) | None => IncidentEvent::Opened,
    }
}

/// An event that an incident's state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an incident in state `{state}` can't be `{event}`")]
pub struct IllegalIncidentEvent {
    /// The incident's state.
    pub state: IncidentState,
    /// The rejected event.
    pub event: IncidentEvent,
}

impl IncidentState {
    /// The only place where an incident changes state.
    pub fn next(self, event: IncidentEvent) -> Result<Self, IllegalIncidentEvent> {
        use IncidentEvent as E;
        use IncidentState as S;
        match (self, event) {
            (S::Resolved, E::Reopened) => Ok(S::Open),
            (S::Open | S::Acknowledged | S::Escalated, E::Repeated) => Ok(self),
            (S::Open | S::Escalated, E::Acknowledged) => Ok(S::Acknowledged),
            (S::Open | S::Acknowledged, E::Escalated) => Ok(S::Escalated),
            (S::Open | S::Acknowledged | S::Escalated, E::Resolved) => Ok(S::Resolved),
            (
                S::Open | S::Acknowledged | S::Escalated | S::Resolved,
                E::Opened
                | E::Repeated
                | E::Reopened
                | E::Acknowledged
                | E::Escalated
                | E::Resolved,
            ) => Err(IllegalIncidentEvent { state: self, event }),
        }
    }
}

/// The incidents that a node's condition implies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConditionIncidents {
    /// Causes that hold now.
    pub causes: Vec<Cause>,
    /// Categories that certainly do not hold any more.
    pub over: Vec<&'static str>,
}

fn beats_missed() -> Reason {
    Reason::new("beats_missed", "no heartbeat within the timeout")
}

fn process_lost() -> Reason {
    Reason::new("process_lost", "a process of the node does not run")
}

/// Derives a node's incidents from its whole condition, not from one transition, so that a repeated or lost step does
/// no harm. What is unknown (a failed policy, an unreachable node) is neither raised nor resolved.
pub fn incidents_of(condition: Condition, reasons: &[Reason], name: &str) -> ConditionIncidents {
    let cause = |category: &str, severity, title: String| Cause {
        category: category.to_owned(),
        severity,
        title,
        reasons: reasons.to_vec(),
    };
    let mut found = ConditionIncidents::default();
    match condition.state {
        NodeState::Provisioning | NodeState::Maintenance => return found,
        NodeState::Terminating | NodeState::Terminated | NodeState::Failed => {
            found.over = category::OF_CONDITION.to_vec();
            return found;
        }
        NodeState::Down => {
            let title = format!("{name} is down: its agent sends no heartbeats");
            found.causes.push(Cause {
                reasons: vec![beats_missed()],
                ..cause(category::NODE_DOWN, Severity::Critical, title)
            });
            return found;
        }
        NodeState::Syncing | NodeState::Healthy | NodeState::Degraded => {
            found.over.push(category::NODE_DOWN);
        }
    }
    let has_lost_process = condition.state == NodeState::Degraded;
    let why = reasons.first().map_or_else(
        || "see the reasons".to_owned(),
        |reason| reason.message.clone(),
    );
    match condition.application_health {
        ApplicationHealth::Critical => {
            found.causes.push(cause(
                category::NODE_CRITICAL,
                Severity::Critical,
                format!("{name} is critical: {why}"),
            ));
        }
        ApplicationHealth::Degraded => {
            found.causes.push(cause(
                category::NODE_DEGRADED,
                Severity::Warning,
                format!("{name} is degraded: {why}"),
            ));
            found.over.push(category::NODE_CRITICAL);
        }
        ApplicationHealth::Ok => {
            found.over.push(category::NODE_CRITICAL);
            if !has_lost_process {
                found.over.push(category::NODE_DEGRADED);
            }
        }
        ApplicationHealth::Unknown => {}
    }
    if has_lost_process && condition.application_health != ApplicationHealth::Degraded {
        found.causes.push(Cause {
            reasons: vec![process_lost()],
            ..cause(
                category::NODE_DEGRADED,
                Severity::Warning,
                format!("{name} has a process that does not run"),
            )
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::SyncStatus;

    fn categories(
        state: NodeState,
        application_health: ApplicationHealth,
    ) -> (Vec<String>, Vec<&'static str>) {
        let condition = Condition {
            state,
            sync_status: SyncStatus::Synced,
            application_health,
        };
        let found = incidents_of(
            condition,
            &[Reason::new("height_stalled", "no new block")],
            "a",
        );
        (
            found
                .causes
                .into_iter()
                .map(|cause| cause.category)
                .collect(),
            found.over,
        )
    }

    #[test]
    fn a_condition_says_what_holds_and_what_is_over() {
        use {ApplicationHealth as H, NodeState as S};
        assert_eq!(
            categories(S::Healthy, H::Critical),
            (vec!["node_critical".into()], vec!["node_down"])
        );
        assert_eq!(
            categories(S::Healthy, H::Ok),
            (vec![], vec!["node_down", "node_critical", "node_degraded"])
        );
        assert_eq!(
            categories(S::Degraded, H::Ok),
            (
                vec!["node_degraded".into()],
                vec!["node_down", "node_critical"]
            )
        );
        assert_eq!(
            categories(S::Down, H::Ok),
            (vec!["node_down".into()], vec![])
        );
        assert_eq!(
            categories(S::Terminated, H::Unknown),
            (vec![], category::OF_CONDITION.to_vec())
        );
    }

    #[test]
    fn a_policy_that_fails_neither_raises_nor_resolves() {
        assert_eq!(
            categories(NodeState::Healthy, ApplicationHealth::Unknown),
            (vec![], vec!["node_down"])
        );
    }

    #[test]
    fn a_plan_mutes() {
        assert_eq!(
            categories(NodeState::Maintenance, ApplicationHealth::Critical),
            (vec![], vec![])
        );
    }

    #[test]
    fn recurrence_reopens_only_soon() {
        let resolved = Some((IncidentState::Resolved, Some(Millis(0))));
        let after = |s: u64| on_cause(resolved, Millis(0).plus(Duration::from_secs(s)));
        assert_eq!(
            (after(599), after(600)),
            (IncidentEvent::Reopened, IncidentEvent::Opened)
        );
        assert_eq!(
            on_cause(Some((IncidentState::Acknowledged, None)), Millis(0)),
            IncidentEvent::Repeated
        );
        assert_eq!(on_cause(None, Millis(0)), IncidentEvent::Opened);
    }

    #[test]
    fn the_matrix_of_states_and_events() {
        use std::fmt::Write;
        let mut table = String::new();
        for state in IncidentState::ALL {
            for event in IncidentEvent::ALL {
                if let Ok(to) = state.next(*event) {
                    writeln!(table, "{state} + {event} -> {to}").unwrap();
                }
            }
        }
        insta::assert_snapshot!(table);
    }
}
