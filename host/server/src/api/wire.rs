//! Words of the API: enumerations, times and values as they are written in JSON.
//!
//! They mirror the domain's, so that the domain may change a name without changing the API unseen: a new value does not
//! compile here until somebody decides what clients shall read.

use host_domain::observation::{Observation, Scalar};
use host_domain::time::Millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! wire_enums {
    ($($(#[$doc:meta])* $name:ident = $domain:path { $($variant:ident),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[expect(missing_docs, reason = "the domain's documentation of the value holds")]
        pub enum $name { $($variant),+ }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                use $domain as Domain;
                match value { $(Domain::$variant => Self::$variant),+ }
            }
        }

        impl From<$name> for $domain {
            fn from(value: $name) -> Self {
                use $domain as Domain;
                match value { $($name::$variant => Domain::$variant),+ }
            }
        }
    )+};
}

wire_enums! {
    /// A node's infrastructure life cycle.
    NodeState = host_domain::node::NodeState {
        Provisioning, Syncing, Healthy, Degraded, Down, Maintenance, Terminating, Terminated, Failed,
    }
    /// What a key of a node is.
    KeyAlgorithm = host_domain::key::KeyAlgorithm { Ed25519, Secp256k1, X25519, Bytes32 }
    /// Where a key of a node comes from.
    KeySource = host_domain::config::profile::KeySource { Generated, User }
    /// Whether a node follows its chain.
    SyncStatus = host_domain::node::SyncStatus { Unknown, Syncing, Synced }
    /// What health policies say of a node.
    ApplicationHealth = host_domain::node::ApplicationHealth { Unknown, Ok, Degraded, Critical }
    /// Which part of a node's condition.
    Dimension = host_domain::event::Dimension { State, ApplicationHealth, SyncStatus }
    /// How bad an incident is.
    Severity = host_domain::incident::Severity { Info, Warning, Critical }
    /// Where an incident stands.
    IncidentState = host_domain::incident::IncidentState { Open, Acknowledged, Escalated, Resolved }
    /// What happened to an incident.
    IncidentEvent = host_domain::incident::IncidentEvent {
        Opened, Repeated, Reopened, Acknowledged, Escalated, Resolved,
    }
    /// What an incident is about.
    SubjectKind = host_domain::incident::SubjectKind { Node, Plugin, Machine }
    /// Whether a notification tells of trouble or of its end.
    NotificationStatus = host_domain::notification::NotificationStatus { Firing, Resolved }
    /// Where a notification stands.
    DeliveryState = host_domain::notification::DeliveryState { Pending, Delivered, Failed }
    /// Where an operation stands.
    OperationState = host_domain::operation::OperationState {
        Running, Undoing, Succeeded, Failed, Cancelled,
    }
    /// What an operation does.
    OperationKind = host_domain::operation::OperationKind { ProvisionNode, TerminateNode, MigrateNode }
    /// Where a subscription stands.
    SubscriptionState = host_domain::subscription::SubscriptionState {
        PendingPayment, Active, PastDue, Suspended, Canceled, Expired,
    }
    /// Where a step of an operation stands.
    StepState = host_domain::operation::StepState { Pending, Running, Done, Failed, Undone }
    /// Where a command stands.
    CommandState = host_domain::command::CommandState {
        Queued, Delivered, Accepted, Succeeded, Failed, Stuck,
    }
    /// What a command does.
    CommandKind = host_domain::command::CommandKind {
        Prepare, Install, Start, Stop, Restart, Uninstall,
    }
    /// Where a revision of a plugin stands.
    RevisionState = host_domain::revision::RevisionState {
        Staged, Validated, Ready, Active, Retired, Rejected, Broken,
    }
    /// What a plugin does.
    PluginKind = host_domain::plugin::PluginKind { Collector, HealthPolicy, Notifier }
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    /// Stable code for programs, such as `height_stalled`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<host_domain::node::Reason> for Reason {
    fn from(reason: host_domain::node::Reason) -> Self {
        Self {
            code: reason.code,
            message: reason.message,
        }
    }
}

/// One measured value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Real(f64),
    /// Text.
    Text(String),
}

/// The value in JSON; `null` when the source had none.
pub(crate) fn value(scalar: Scalar) -> Option<Value> {
    match scalar {
        Scalar::Absent => None,
        Scalar::Flag(value) => Some(Value::Flag(value)),
        Scalar::Int(value) => Some(Value::Int(value)),
        Scalar::Real(value) => Some(Value::Real(value)),
        Scalar::Text(value) => Some(Value::Text(value)),
    }
}

/// What was measured, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Measured {
    /// The value; `null` when the source had none.
    pub value: Option<Value>,
    /// When it was measured.
    pub at: Timestamp,
}

impl From<Observation> for Measured {
    fn from(observation: Observation) -> Self {
        Self {
            value: value(observation.value),
            at: time(observation.at),
        }
    }
}

/// A point in time as RFC 3339 in UTC; what lies beyond year 9999 is shown as the end of it.
pub(crate) fn time(at: Millis) -> Timestamp {
    let end = if at.0 < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::from_millisecond(at.0).unwrap_or(end)
}

/// The other way.
pub(crate) fn millis(at: Timestamp) -> Millis {
    Millis(at.as_millisecond())
}
