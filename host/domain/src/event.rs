//! The outbox event: every transition of a node, written in the transaction that makes it.

use serde::{Deserialize, Serialize};

use crate::ids::{EventId, NodeId};
use crate::node::{Condition, Reason};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The dimension that changed.
    Dimension {
        /// The infrastructure's life cycle.
        State = "state",
        /// The verdict of policies.
        ApplicationHealth = "application_health",
        /// Whether the node follows its chain.
        SyncStatus = "sync_status",
    }
}

/// One transition of one node. Handlers receive it at least once and must be idempotent by its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthTransitionEvent {
    /// UUID v7.
    pub id: EventId,
    /// The node.
    pub node_id: NodeId,
    /// The node's name at that time.
    pub node_name: String,
    /// The node's chain.
    pub chain_profile_id: String,
    /// The node's type.
    pub node_type: String,
    /// The dimension that changed.
    pub dimension: Dimension,
    /// The condition before.
    pub before: Condition,
    /// The condition after.
    pub after: Condition,
    /// The cause: a node event's name, or `verdict`.
    pub cause: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// The node's version after the transition.
    pub state_version: i64,
    /// When.
    pub at: Millis,
}
