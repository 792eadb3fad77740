//! Use-cases: one file per noun. Each reads, asks the domain, writes in one transaction, and leaves effects to what hangs on the rows.
//!
//! Handlers and the CLI speak to this module only; it knows nothing of HTTP.

use std::fmt;

use host_domain::incident::IllegalIncidentEvent;
use host_domain::node::IllegalTransition;
use host_domain::subscription::IllegalSubscriptionEvent;

use host_store::{StoreError, Undone};

mod agent_events;
mod agents;
pub(crate) mod api_key_uses;
pub(crate) mod api_keys;
pub(crate) mod audit;
mod auth;
mod chains;
mod collectors;
mod component_reports;
mod dead_letters;
mod events;
mod idempotency;
mod incidents;
mod key_backup;
mod keys;
mod live;
mod machine;
mod machines;
mod migrations;
mod node_keys;
mod nodes;
mod operations;
mod plugin_trouble;
mod plugins;
mod readiness;
mod subscriptions;
mod types;
mod workflows;

pub use api_keys::Authentication;
pub use events::LiveItem;
pub use idempotency::Kept;
pub use key_backup::{Restored, restore_keys};
pub use live::*;
pub use machine::{Change, change_node, change_nodes};
pub use node_keys::{ExportedKey, KeptKey, KeyInfo};
pub use readiness::PartReadiness;
pub use subscriptions::PaidSubscription;
pub use types::*;
pub use workflows::WorkflowDetails;

pub(crate) use agents::{MachineOf, ensure_machine};
pub(crate) use collectors::CollectorWatch;
pub(crate) use events::LiveEvents;
pub(crate) use incidents::{Subject, raise, resolve, step as step_incident};
pub(crate) use keys::{KeysMoved, tell_of_keys};
pub(crate) use machines::{Claimed, claim_machine, leave};
pub(crate) use migrations::{NO_TARGET, candidate, health_of, open_count, open_operation};
pub(crate) use nodes::{Asked, Removal, begin_removal};
pub(crate) use operations::{log_operation, save_operation};
pub(crate) use plugin_trouble::{PluginRef, ToldOfPlugins};
pub(crate) use plugins::REVISIONS_KEPT;
pub(crate) use subscriptions::hold as hold_subscription;

/// Why a use-case could not be done, in the product's words.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// There is no such thing, or it belongs to somebody else.
    #[error("{noun} `{id}` does not exist")]
    NotFound {
        /// What kind of thing.
        noun: &'static str,
        /// Which one.
        id: String,
    },
    /// Somebody else was faster, or the caller's version is old.
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
    /// Something that is needed is away; the same request may work later.
    #[error("{what} is not available right now; try again in a few seconds")]
    Unavailable {
        /// What is away.
        what: &'static str,
        /// Why.
        #[source]
        source: anyhow::Error,
    },
    /// A bug or a broken machine.
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
