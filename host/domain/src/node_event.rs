//! A node's history for people, which is append-only.

use crate::ids::NodeId;
use crate::time::Millis;

/// Something that happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEventEntry {
    /// UUID v7.
    pub id: String,
    /// The node.
    pub node_id: NodeId,
    /// When it happened.
    pub at: Millis,
    /// Stable kind, such as `process_restarted`.
    pub kind: String,
    /// For people.
    pub message: String,
}
