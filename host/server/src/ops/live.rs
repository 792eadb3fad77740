//! What happened, as it is kept in the event log and told to those who listen.
//!
//! The log holds domain types, because it is a store; whoever shows them to clients turns them into its own. A kind and its
//! form belong together, so that nobody guesses fields by name.

use host_domain::event::Dimension;
use host_domain::ids::{IncidentId, NodeId, OperationId, SubscriptionId};
use host_domain::incident::{IncidentEvent, IncidentState, Severity, SubjectKind};
use host_domain::node::Reason;
use host_domain::node_event::NodeEventEntry;
use host_domain::observation::Observation;
use host_domain::operation::{OperationKind, OperationState};
use host_domain::revision::RevisionState;
use host_domain::subscription::SubscriptionState;
use host_domain::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::json;

use host_store::{LogEntry, NewLogEntry};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveEvent {
    /// Its number, by which a stream resumes; observations have none.
    pub seq: Option<i64>,
    /// The node that it is about.
    pub node_id: Option<NodeId>,
    /// The chain that it is about.
    pub chain: Option<String>,
    /// When.
    pub at: Millis,
    /// What.
    pub what: LiveData,
}

/// What happened, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum LiveData {
    /// A dimension of a node moved.
    NodeTransition(NodeMoved),
    /// Something happened to a node's processes.
    NodeEvent(NodeHappening),
    /// An incident moved.
    Incident(IncidentMoved),
    /// An operation made progress or ended.
    Operation(OperationMoved),
    /// A revision of a plugin moved.
    Plugin(RevisionMoved),
    /// A subscription was made or moved.
    Subscription(SubscriptionMoved),
    /// A node was measured. Never in the log.
    Observation(Vec<Observation>),
}

/// A thing and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedNode {
    /// Which.
    pub id: NodeId,
    /// For people.
    pub name: String,
}

/// A dimension of a node moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMoved {
    /// The node.
    pub node: NamedNode,
    /// What moved.
    pub dimension: Dimension,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
    /// What moved it: a node event's name, or `verdict`.
    pub cause: String,
    /// What to show afterwards.
    pub display_state: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// Something happened to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHappening {
    /// UUID v7.
    pub id: String,
    /// When, by the agent's clock.
    pub at: Millis,
    /// Stable kind, such as `process_restarted`.
    pub kind: String,
    /// For people.
    pub message: String,
}

impl From<&NodeEventEntry> for NodeHappening {
    fn from(entry: &NodeEventEntry) -> Self {
        Self {
            id: entry.id.clone(),
            at: entry.at,
            kind: entry.kind.clone(),
            message: entry.message.clone(),
        }
    }
}

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentSubject {
    /// Its kind.
    pub kind: SubjectKind,
    /// Which one.
    pub id: String,
    /// For people.
    pub name: String,
}

/// An incident moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentMoved {
    /// The incident.
    pub id: IncidentId,
    /// What happened to it.
    pub event: IncidentEvent,
    /// Where it stands now.
    pub state: IncidentState,
    /// How bad it is.
    pub severity: Severity,
    /// Such as `node_critical`.
    pub category: String,
    /// One line for people.
    pub title: String,
    /// What it is about.
    pub subject: IncidentSubject,
}

/// An operation made progress or ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperationMoved {
    /// The operation.
    pub id: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// Where it stands.
    pub state: OperationState,
    /// 0 to 1 over all steps.
    pub progress: f64,
    /// The node that it works on.
    pub node_id: NodeId,
    /// What went wrong.
    pub error: Option<String>,
}

/// A revision of a plugin moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionMoved {
    /// The chain that declares the plugin, or `notifications`.
    pub scope: String,
    /// The plugin's name there.
    pub plugin: String,
    /// Counts up within a plugin.
    pub generation: i64,
    /// `sha256:<hex>` of the component.
    pub digest: String,
    /// Where the revision stands.
    pub state: RevisionState,
    /// Why it was rejected or broke.
    pub reason: Option<String>,
}

/// A subscription was made or moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionMoved {
    /// The subscription.
    pub id: SubscriptionId,
    /// What moved it: a subscription event's name, or `created`.
    pub cause: String,
    /// Where it stands now.
    pub state: SubscriptionState,
    /// Until when it is paid.
    pub expires_at: Option<Millis>,
}

impl LiveData {
    /// The name of the kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NodeTransition(_) => "node_transition",
            Self::NodeEvent(_) => "node_event",
            Self::Incident(_) => "incident",
            Self::Operation(_) => "operation",
            Self::Plugin(_) => "plugin",
            Self::Subscription(_) => "subscription",
            Self::Observation(_) => "observation",
        }
    }

    /// The entry of the log that tells of it.
    pub(crate) fn entry(
        self,
        node_id: Option<NodeId>,
        chain: Option<String>,
        at: Millis,
    ) -> NewLogEntry {
        let kind = self.kind().to_owned();
        // Types of ours with names as keys: they always have a JSON form.
        let mut form = serde_json::to_value(self).unwrap_or_default();
        let payload = form["data"].take();
        NewLogEntry {
            at,
            kind,
            node_id,
            chain,
            payload,
        }
    }
}

impl LiveEvent {
    /// Reads an entry of the log. An unreadable entry is logged and skipped, so that it does not end every stream.
    pub(crate) fn read(row: LogEntry) -> Option<Self> {
        let LogEntry { seq, entry } = row;
        let form = json!({ "kind": entry.kind, "data": entry.payload });
        match serde_json::from_value(form) {
            Ok(what) => Some(Self {
                seq: Some(seq),
                node_id: entry.node_id,
                chain: entry.chain,
                at: entry.at,
                what,
            }),
            Err(error) => {
                tracing::warn!(seq, kind = entry.kind, "an event can't be read: {error}");
                None
            }
        }
    }
}

/// Which live events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveFilter {
    /// Of one node.
    pub node: Option<NodeId>,
    /// Of one chain.
    pub chain: Option<String>,
    /// Of these kinds; empty for all.
    pub kinds: Vec<String>,
}

impl LiveFilter {
    /// Whether an event is wanted.
    pub fn accepts(&self, event: &LiveEvent) -> bool {
        let kind = event.what.kind();
        self.node.is_none_or(|node| event.node_id == Some(node))
            && self
                .chain
                .as_ref()
                .is_none_or(|chain| event.chain.as_ref() == Some(chain))
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
    }
}
