//! Changes of a node's keys in its history: names only, never key material.

use host_domain::node::Node;
use host_domain::time::Millis;
use uuid::Uuid;

use super::OpError;
use super::live::{LiveData, NodeHappening};
use host_keys::KeyError;
use host_store::{NodeEventEntry, Tx};

/// What happened to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyChange {
    /// The host generated them.
    Generated,
    /// A person imported them.
    Imported,
    /// A person exported them, sealed.
    Exported,
    /// They were restored from backups.
    Restored,
    /// Their node is gone; they are kept for the retention time.
    Retired,
    /// The host deleted them.
    Deleted,
}

impl KeyChange {
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

/// Adds a line to the node's history and a live event, in the transaction that changes the keys.
pub(crate) async fn record_key_change(
    tx: &mut Tx,
    node: &Node,
    change: KeyChange,
    names: &[String],
    now: Millis,
) -> Result<(), OpError> {
    let entry = NodeEventEntry {
        id: Uuid::now_v7().to_string(),
        node_id: node.id,
        at: now,
        kind: change.as_str().to_owned(),
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
