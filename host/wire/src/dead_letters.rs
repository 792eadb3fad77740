//! Dead letters in JSON: transitions that the host could not handle.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A transition of a node that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeadLetter)]
pub struct DeadLetterView {
    /// Its id, UUID v7.
    pub id: Uuid,
    /// The node.
    pub node_id: Uuid,
    /// The node's name at that time.
    pub node_name: String,
    /// What moved: `state`, `application_health` or `sync_status`.
    pub dimension: String,
    /// What moved it.
    pub cause: String,
    /// When the node moved.
    pub at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last try brought.
    pub error: String,
    /// When it was put aside.
    pub failed_at: Timestamp,
}
