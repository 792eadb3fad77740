//! Use cases: one file per noun. Each reads rows, applies a rule of the domain, and writes in one transaction.
//!
//! A noun with use cases for the API has a struct with private fields, which [`UseCases`] lists. Handlers call those structs and
//! can't reach the store. Loops and activities call the functions on a transaction.

use std::fmt;
use std::sync::Arc;

use host_domain::incident::IllegalIncidentEvent;
use host_domain::node::IllegalTransition;
use host_domain::subscription::IllegalSubscriptionEvent;
use host_domain::time::Clock;

use host_store::{StoreError, Undone};

mod agent_events;
mod agent_link;
mod agents;
mod api_key_uses;
mod api_keys;
mod assignments;
mod audit;
mod chains;
mod collectors;
mod component_reports;
mod dead_letters;
mod events;
mod idempotency;
mod incident_subject;
mod incidents;
mod key_backup;
mod keys;
mod live;
mod machines;
mod migrations;
mod node_keys;
mod node_making;
mod node_removal;
mod node_state;
mod nodes;
mod operations;
mod page;
mod plugin_incidents;
mod plugins;
mod principal;
mod readiness;
mod records;
mod reload;
mod subscriptions;
mod workflow_engine;
mod workflows;

pub use crate::catalogue::Chains;
pub use agent_link::IssuedToken;
pub use agents::Agents;
pub use api_keys::{ApiKeys, Authentication};
pub use audit::AuditLog;
pub use chains::ChainView;
pub use dead_letters::{DeadLetter, DeadLetters};
pub use events::{EventStream, LiveItem};
pub use idempotency::{RequestKey, StoredAnswer, StoredAnswers};
pub use incidents::{IncidentFilter, IncidentHistoryRow, Incidents};
pub use key_backup::{Restored, restore_keys};
pub use live::*;
pub use migrations::NodeMigrations;
pub use node_keys::{ExportedKey, KeptKey, KeyInfo, NodeKeys};
pub use node_making::CreateNode;
pub use node_state::{Change, change_node, change_nodes};
pub use nodes::{HealthExplanation, NodeDetails, NodeEventRow, NodeFilter, Nodes};
pub use operations::{OperationFilter, Operations};
pub use page::{PAGE_MAX, Page, PageRequest};
pub use plugins::{PluginStats, PluginView, Plugins};
pub use principal::{Principal, Scope};
pub use readiness::{PartReadiness, Readiness};
pub use subscriptions::{
    CreateSubscription, PaidSubscription, SubscriptionDetails, SubscriptionFilter, Subscriptions,
};
pub use workflows::{WorkflowAdmin, WorkflowDetails};

pub(crate) use agent_events::AgentEvents;
pub(crate) use agent_link::AgentLink;
pub(crate) use agents::{MachineOf, ensure_machine};
pub(crate) use api_keys::{Expiry, NewApiKey};
pub(crate) use assignments::Assignments;
pub(crate) use audit::{AuditEntry, AuditFilter};
pub(crate) use collectors::{CollectorWatch, Collectors};
pub(crate) use events::LiveEvents;
pub(crate) use incident_subject::Subject;
pub(crate) use incidents::{raise, resolve, step as step_incident};
pub(crate) use key_backup::Keys;
pub(crate) use keys::{KeyChange, record_key_change};
pub(crate) use machines::{ClaimedMachine, Machines, claim_machine, leave};
pub(crate) use migrations::{
    NO_TARGET, begin_migration, candidate, health_of, open_count, open_operation, region_health,
};
pub(crate) use node_removal::{RemovalRequest, begin_removal};
pub(crate) use operations::{log_operation, save_operation};
pub(crate) use plugin_incidents::{PluginIncidents, PluginRef};
pub(crate) use plugins::REVISIONS_KEPT;
pub(crate) use records::Records;
pub(crate) use reload::Reload;
pub(crate) use subscriptions::{lock as lock_subscription, move_subscription};
pub(crate) use workflow_engine::{WorkflowEngine, unavailable as engine_unavailable};
pub(crate) use workflows::restart_workflow;

/// What the layer above may do: one field per noun, each with the use cases on that noun.
pub struct UseCases {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Agents.
    pub agents: Agents,
    /// Stored answers to requests with an idempotency key.
    pub answers: StoredAnswers,
    /// API keys.
    pub api_keys: ApiKeys,
    /// The audit log.
    pub audit: AuditLog,
    /// Chains.
    pub chains: Chains,
    /// Dead letters.
    pub dead_letters: DeadLetters,
    /// The stream of live events.
    pub events: EventStream,
    /// Incidents.
    pub incidents: Incidents,
    /// Node migrations.
    pub migrations: NodeMigrations,
    /// Keys of nodes.
    pub node_keys: NodeKeys,
    /// Nodes.
    pub nodes: Nodes,
    /// Operations.
    pub operations: Operations,
    /// Plugins.
    pub plugins: Plugins,
    /// The readiness of this process.
    pub readiness: Readiness,
    /// Subscriptions.
    pub subscriptions: Subscriptions,
    /// Workflows.
    pub workflows: WorkflowAdmin,
}

/// Why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// The object does not exist, or belongs to another caller.
    #[error("{noun} `{id}` does not exist")]
    NotFound {
        /// What kind of thing.
        noun: &'static str,
        /// Which one.
        id: String,
    },
    /// The object changed since the caller read it.
    #[error("{noun} `{id}` changed in the meantime; read it again and repeat")]
    Stale {
        /// What kind of thing.
        noun: &'static str,
        /// Which one.
        id: String,
    },
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A field of the request can't be used.
    #[error("`{field}` {reason}")]
    Invalid {
        /// JSON pointer, `/chain`.
        field: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The node's state does not allow it.
    #[error(transparent)]
    IllegalTransition(#[from] IllegalTransition),
    /// The incident's state does not allow it.
    #[error(transparent)]
    IllegalIncidentEvent(#[from] IllegalIncidentEvent),
    /// The subscription's state does not allow it.
    #[error(transparent)]
    IllegalSubscriptionEvent(#[from] IllegalSubscriptionEvent),
    /// A dependency is unavailable; the same request may work later.
    #[error("{what} is not available right now; try again in a few seconds")]
    Unavailable {
        /// Which dependency.
        what: &'static str,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// A bug or a defect of the system.
    #[error("internal failure")]
    Internal(#[source] anyhow::Error),
}

impl OpError {
    pub(crate) fn not_found(noun: &'static str, id: impl fmt::Display) -> Self {
        Self::NotFound {
            noun,
            id: id.to_string(),
        }
    }

    pub(crate) fn stale(noun: &'static str, id: impl fmt::Display) -> Self {
        Self::Stale {
            noun,
            id: id.to_string(),
        }
    }

    pub(crate) fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn internal(error: impl Into<anyhow::Error>) -> Self {
        Self::Internal(error.into())
    }
}

impl From<StoreError> for OpError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { what } => Self::Conflict(format!("{what} exists already")),
            StoreError::Raced(node) => Self::stale("node", node),
            error @ StoreError::Fenced { .. } => Self::Unavailable {
                what: "the lead",
                source: error.into(),
            },
            error if error.is_retryable() => Self::Unavailable {
                what: "the database",
                source: error.into(),
            },
            error => Self::Internal(error.into()),
        }
    }
}

impl Undone for OpError {
    fn is_undone(&self) -> bool {
        let Self::Unavailable { source, .. } = self else {
            return false;
        };
        source
            .downcast_ref::<StoreError>()
            .is_some_and(Undone::is_undone)
    }
}
