//! The event stream: server-sent events whose data is JSON.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::nodes::NodeEventView;
use crate::values::{Measured, Reason};
use crate::words::{
    Dimension, IncidentEvent, IncidentState, OperationKind, OperationState, RevisionState,
    Severity, SubjectKind, SubscriptionState,
};

/// The kinds that a client can ask for.
pub const KINDS: [&str; 7] = [
    "node_transition",
    "node_event",
    "incident",
    "operation",
    "plugin",
    "subscription",
    "observation",
];
/// Name of the first event of a stream. Its number is the one after which the stream begins.
pub const CONNECTED: &str = "connected";
/// Name of the last event of a stream that the host ends.
pub const CUT: &str = "cut";
/// Header with the number of the last event that the client has.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// Why the host ended a stream: the data of a `cut` event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCut {
    /// `too_slow` or `ended`.
    pub reason: String,
}

/// Which events, and after which.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// Of one node, by its id.
    pub node: Option<Uuid>,
    /// Of one chain.
    pub chain: Option<String>,
    /// Of these kinds, separated by commas: `node_transition`, `node_event`, `incident`, `operation`, `plugin`, `subscription`, `observation`.
    pub kind: Option<String>,
    /// Begin after this number; the header `Last-Event-ID` goes before it.
    pub after: Option<i64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Its number, by which a stream resumes; observations have none.
    pub seq: Option<i64>,
    /// The node that it is about.
    pub node_id: Option<Uuid>,
    /// The chain that it is about.
    pub chain: Option<String>,
    /// When.
    pub at: Timestamp,
    /// What: its kind, and the form that the kind has.
    #[serde(flatten)]
    pub what: EventData,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
pub enum EventData {
    /// A dimension of a node moved.
    NodeTransition(NodeMoved),
    /// Something happened to a node's processes.
    NodeEvent(NodeEventView),
    /// An incident moved.
    Incident(IncidentMoved),
    /// An operation made progress or ended.
    Operation(OperationMoved),
    /// A revision of a plugin moved.
    Plugin(RevisionMoved),
    /// A subscription was made or moved.
    Subscription(SubscriptionMoved),
    /// A node was measured: the newest value of each observation.
    Observation(BTreeMap<String, Measured>),
}

/// Which node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NamedNode {
    /// UUID v7.
    pub id: Uuid,
    /// For people.
    pub name: String,
}

/// A dimension of a node moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeMoved {
    /// The node.
    pub node: NamedNode,
    /// What moved.
    pub dimension: Dimension,
    /// The value before.
    pub from: String,
    /// The value after.
    pub to: String,
    /// What moved it, such as `installed`, or `verdict` for a policy.
    pub cause: String,
    /// What to show afterwards.
    pub display_state: String,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// What an incident is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentSubject {
    /// What kind of thing.
    pub kind: SubjectKind,
    /// Which one: a node's or a host's id, or a plugin's name.
    pub id: String,
    /// For people.
    pub name: String,
}

/// An incident moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentMoved {
    /// The incident.
    pub id: Uuid,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OperationMoved {
    /// The operation.
    pub id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// Where it stands.
    pub state: OperationState,
    /// 0 to 1 over all steps.
    pub progress: f64,
    /// The node that it works on.
    pub node_id: Uuid,
    /// What went wrong and what to do next.
    pub error: Option<String>,
}

/// A revision of a plugin moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RevisionMoved {
    /// The chain that declares the plugin, or `notifications`.
    pub scope: String,
    /// The plugin's name there.
    pub plugin: String,
    /// Rises by one for each revision of the plugin.
    pub generation: i64,
    /// Digest of the component.
    pub digest: String,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it was rejected or broke.
    pub reason: Option<String>,
}

/// A subscription was made or moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubscriptionMoved {
    /// The subscription.
    pub id: Uuid,
    /// What moved it, such as `payment_completed`, or `created`.
    pub cause: String,
    /// Where it stands now.
    pub state: SubscriptionState,
    /// Until when it is paid.
    pub expires_at: Option<Timestamp>,
}
