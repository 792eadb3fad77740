//! Enumerations of the domain as JSON writes them.
//!
//! They mirror the domain's, so that a change of the domain can't change the API unnoticed: a new value does not compile here
//! until somebody decides what clients read.

use serde::de::IntoDeserializer;
use serde::de::value::Error;
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
    /// Whether an API key is valid.
    ApiKeyState = host_domain::api_key::ApiKeyState { Active, Expired, Revoked }
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

/// The value that a word of the API stands for, such as `past_due`; the error lists the words that exist.
pub fn parse_word<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T, Error> {
    T::deserialize(word.into_deserializer())
}
