//! The node: its three dimensions and the table of allowed transitions.
//!
//! Three writers share one state machine: heartbeats change `state`, policies change `application_health`,
//! observations change `sync_status`, and each of them asks this module first.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{MachineId, NodeId, OperationId, SubscriptionId};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The infrastructure's life cycle; only this state machine changes it.
    NodeState {
        /// Being created, or being moved to another machine.
        Provisioning = "provisioning",
        /// Runs and catches up, or was never healthy.
        Syncing = "syncing",
        /// Runs, sends heartbeats, and was in sync.
        Healthy = "healthy",
        /// Its agent sends heartbeats, but a process of the node does not run.
        Degraded = "degraded",
        /// Its agent is silent.
        Down = "down",
        /// A planned intervention is in progress.
        Maintenance = "maintenance",
        /// Being removed.
        Terminating = "terminating",
        /// Gone; terminal.
        Terminated = "terminated",
        /// Abandoned, with nothing left running; terminal.
        Failed = "failed",
    }
}

text_enum! {
    /// Whether the node follows its chain, by observations.
    SyncStatus {
        /// Nothing is known.
        Unknown = "unknown",
        /// Behind and catching up.
        Syncing = "syncing",
        /// At the chain's head.
        Synced = "synced",
    }
}

text_enum! {
    /// The verdict of health policies, ordered from best to worst, with `Unknown` first.
    ApplicationHealth {
        /// No policy could judge.
        Unknown = "unknown",
        /// The node works.
        Ok = "ok",
        /// The node works with problems.
        Degraded = "degraded",
        /// The node does not work.
        Critical = "critical",
    }
}

text_enum! {
    /// What changes a node's state.
    NodeEvent {
        /// The recipe is installed and the processes run.
        Installed = "installed",
        /// The node was healthy and in sync.
        SyncCompleted = "sync_completed",
        /// The node fell behind its chain.
        SyncLost = "sync_lost",
        /// A process of the node does not run.
        ProcessLost = "process_lost",
        /// Every process of the node runs again.
        ProcessRecovered = "process_recovered",
        /// Too many heartbeats were missed.
        BeatsMissed = "beats_missed",
        /// Heartbeats returned and the node had been in sync.
        BeatsResumed = "beats_resumed",
        /// Heartbeats returned and the node had not been in sync.
        BeatsResumedBehind = "beats_resumed_behind",
        /// A planned intervention started.
        MaintenanceStarted = "maintenance_started",
        /// A planned intervention ended; the node must prove its health again.
        MaintenanceEnded = "maintenance_ended",
        /// The node moves to another machine.
        MigrationStarted = "migration_started",
        /// The node migration failed, and the node is on its old machine.
        MigrationFailed = "migration_failed",
        /// A user requested the termination.
        TerminateRequested = "terminate_requested",
        /// Nothing of the node is left.
        TerminateFinished = "terminate_finished",
        /// A failure was undone; nothing of the node is left.
        GaveUp = "gave_up",
    }
}

impl NodeState {
    /// Terminal states have no transitions.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Terminated | Self::Failed)
    }

    /// Whether the node is being removed or gone.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Terminating | Self::Terminated | Self::Failed)
    }

    /// Whether collectors measure the node: from the end of its installation until its removal starts.
    pub fn is_measured(self) -> bool {
        match self {
            Self::Syncing | Self::Healthy | Self::Degraded | Self::Down | Self::Maintenance => true,
            Self::Provisioning | Self::Terminating | Self::Terminated | Self::Failed => false,
        }
    }

    /// Whether heartbeats are expected and judged.
    pub fn expects_beats(self) -> bool {
        matches!(
            self,
            Self::Syncing | Self::Healthy | Self::Degraded | Self::Down
        )
    }

    /// Whether health policies judge the node.
    pub fn is_judged(self) -> bool {
        matches!(self, Self::Syncing | Self::Healthy | Self::Degraded)
    }

    /// The table of transitions: whether `to` may follow.
    pub fn may_become(self, to: Self) -> bool {
        use NodeState as S;
        let allowed: &[S] = match self {
            // Down: a node migration failed.
            S::Provisioning => &[S::Syncing, S::Down, S::Failed, S::Terminating],
            S::Syncing => &[
                S::Healthy,
                S::Degraded,
                S::Down,
                S::Maintenance,
                S::Terminating,
                S::Failed,
            ],
            S::Healthy => &[
                S::Syncing,
                S::Degraded,
                S::Down,
                S::Maintenance,
                S::Terminating,
            ],
            S::Degraded => &[
                S::Healthy,
                S::Syncing,
                S::Down,
                S::Maintenance,
                S::Terminating,
            ],
            S::Down => &[
                S::Syncing,
                S::Healthy,
                S::Degraded,
                S::Provisioning,
                S::Maintenance,
                S::Terminating,
                S::Failed,
            ],
            S::Maintenance => &[S::Syncing, S::Healthy, S::Down, S::Terminating, S::Failed],
            S::Terminating => &[S::Terminated, S::Failed],
            S::Terminated | S::Failed => &[],
        };
        allowed.contains(&to)
    }

    /// The only place where a node's state changes.
    pub fn next(self, event: NodeEvent) -> Result<Self, IllegalTransition> {
        use NodeEvent as E;
        use NodeState as S;
        let to = match event {
            E::Installed | E::SyncLost | E::MaintenanceEnded | E::BeatsResumedBehind => S::Syncing,
            E::SyncCompleted | E::ProcessRecovered | E::BeatsResumed => S::Healthy,
            E::ProcessLost => S::Degraded,
            E::BeatsMissed | E::MigrationFailed => S::Down,
            E::MaintenanceStarted => S::Maintenance,
            E::MigrationStarted => S::Provisioning,
            E::TerminateRequested => S::Terminating,
            E::TerminateFinished => S::Terminated,
            E::GaveUp => S::Failed,
        };
        let illegal = IllegalTransition { state: self, event };
        // Two events lead to a state that the table allows from other states too; only these origins are valid.
        let meant = match event {
            E::Installed => self == S::Provisioning,
            E::SyncCompleted => matches!(self, S::Syncing | S::Degraded),
            E::ProcessRecovered => self == S::Degraded,
            E::SyncLost => matches!(self, S::Healthy | S::Degraded),
            E::BeatsResumed | E::BeatsResumedBehind | E::MigrationStarted => self == S::Down,
            E::MaintenanceEnded => self == S::Maintenance,
            E::BeatsMissed => self != S::Provisioning,
            E::MigrationFailed => self != S::Maintenance,
            E::ProcessLost => matches!(self, S::Syncing | S::Healthy),
            E::MaintenanceStarted | E::TerminateRequested | E::TerminateFinished | E::GaveUp => {
                true
            }
        };
        if meant && self.may_become(to) {
            Ok(to)
        } else {
            Err(illegal)
        }
    }
}

/// A transition that the table does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node in state `{state}` can't handle `{event}`")]
pub struct IllegalTransition {
    /// The node's state.
    pub state: NodeState,
    /// The rejected event.
    pub event: NodeEvent,
}

/// Why a dimension has its value: a stable code for programs and a text for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code, such as `height_stalled`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl Reason {
    /// A reason from its parts.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
        }
    }
}

/// The three dimensions of a node together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// The infrastructure's life cycle.
    pub state: NodeState,
    /// Whether it follows its chain.
    pub sync_status: SyncStatus,
    /// The verdict of policies.
    pub application_health: ApplicationHealth,
}

impl Condition {
    /// A new node's condition.
    pub const NEW: Self = Self {
        state: NodeState::Provisioning,
        sync_status: SyncStatus::Unknown,
        application_health: ApplicationHealth::Unknown,
    };

    /// The condition after an event; a terminal state has no health and sync status.
    pub fn after(self, event: NodeEvent) -> Result<Self, IllegalTransition> {
        let state = self.state.next(event)?;
        Ok(if state.is_terminal() {
            Self {
                state,
                sync_status: SyncStatus::Unknown,
                application_health: ApplicationHealth::Unknown,
            }
        } else {
            Self { state, ..self }
        })
    }

    /// What users see: the infrastructure first, then application health, then sync.
    pub fn display_state(self) -> &'static str {
        match (self.state, self.application_health, self.sync_status) {
            (NodeState::Healthy, ApplicationHealth::Critical, _) => "critical",
            (NodeState::Healthy, ApplicationHealth::Degraded, _) => "degraded",
            (NodeState::Healthy, _, SyncStatus::Syncing) => "syncing",
            (state, _, _) => state.as_str(),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}",
            self.state, self.application_health, self.sync_status
        )
    }
}

/// A blockchain node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// UUID v7.
    pub id: NodeId,
    /// The subscription that it belongs to.
    pub subscription_id: SubscriptionId,
    /// For people; unique among nodes that are not terminal.
    pub name: String,
    /// The chain profile, such as `celestia-mocha`.
    pub chain_profile_id: String,
    /// One of the profile's node types.
    pub node_type: String,
    /// Its three dimensions.
    pub condition: Condition,
    /// Why `application_health` has its value.
    pub reasons: Vec<Reason>,
    /// Internal: shown to admins only.
    pub placement: Placement,
    /// Ports by the names of runtime.yaml.
    pub ports: BTreeMap<String, u16>,
    /// Versions by binary name.
    pub binary_versions: BTreeMap<String, String>,
    /// The inputs that the customer entered (no secrets).
    pub inputs: BTreeMap<String, String>,
    /// The operation that creates or removes it.
    pub operation_id: Option<OperationId>,
    /// Optimistic lock: rises with each write of a dimension.
    pub state_version: i64,
    /// When its record was created.
    pub created_at: Millis,
    /// When a dimension last changed.
    pub updated_at: Millis,
}

/// Where a node runs; never shown to a user who is not an admin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Provider name, such as `local`.
    pub provider: String,
    /// The provider's instance type.
    pub instance_type: String,
    /// The provider's region.
    pub region: String,
    /// The machine, when there is one.
    pub machine_id: Option<MachineId>,
    /// Its address.
    pub machine_ip: Option<String>,
}

#[cfg(test)]
mod tests;
