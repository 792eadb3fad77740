//! What a node's history says of its keys: names only, never more of a key.

use host_domain::node::Node;
use host_domain::time::Millis;
use uuid::Uuid;

use super::OpError;
use super::live::{LiveData, NodeHappening};
use host_keys::KeyError;
use host_store::{NodeEventEntry, Tx};

/// What became of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeysMoved {
    /// They were made.
    Generated,
    /// A person brought them.
    Imported,
    /// A person took them, sealed.
    Exported,
    /// They came back from their copies.
    Restored,
    /// Their node is gone, and they are kept for the retention.
    Retired,
    /// They are gone.
    Deleted,
}

impl KeysMoved {
    fn as_str(self) -> &'static str {
        match self {
            Self::Generated => "keys_generated",
            Self::Imported => "keys_imported",
            Self::Exported => "keys_exported",
            Self::Restored => "keys_restored",
            Self::Retired => "keys_retired",
            Self::Deleted => "keys_deleted",
        }
    }
}

/// A line of the node's history, and the live event, in the transaction that moves the keys.
pub(crate) async fn tell_of_keys(
    tx: &mut Tx,
    node: &Node,
    moved: KeysMoved,
    names: &[String],
    now: Millis,
) -> Result<(), OpError> {
    let entry = NodeEventEntry {
        id: Uuid::now_v7().to_string(),
        node_id: node.id,
        at: now,
        kind: moved.as_str().to_owned(),
        message: names.join(", "),
    };
    tx.append_node_events(std::slice::from_ref(&entry)).await?;
    let happening = NodeHappening {
        id: entry.id,
        at: entry.at,
        kind: entry.kind,
        message: entry.message,
    };
    let chain = Some(node.chain_profile_id.clone());
    tx.append_event_log(LiveData::NodeEvent(happening).entry(Some(node.id), chain, now));
    Ok(())
}

impl From<KeyError> for OpError {
    fn from(error: KeyError) -> Self {
        if error.may_heal() {
            Self::Unavailable {
                what: "what seals nodes' keys",
                source: error.into(),
            }
        } else {
            Self::Internal(error.into())
        }
    }
}
