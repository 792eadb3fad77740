//! Events as the API shows them: what the log keeps is the domain's, what a client reads is as in every other answer.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::nodes::NodeEventView;
use super::super::wire::{
    self, Dimension, IncidentEvent, IncidentState, Measured, OperationKind, OperationState, Reason,
    RevisionState, Severity, SubjectKind, SubscriptionState,
};
use crate::ops;

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

impl From<ops::LiveEvent> for EventView {
    fn from(event: ops::LiveEvent) -> Self {
        Self {
            seq: event.seq,
            node_id: event.node_id.map(|id| id.0),
            chain: event.chain,
            at: wire::time(event.at),
            what: event.what.into(),
        }
    }
}

impl From<ops::LiveData> for EventData {
    fn from(data: ops::LiveData) -> Self {
        match data {
            ops::LiveData::NodeTransition(moved) => Self::NodeTransition(moved.into()),
            ops::LiveData::NodeEvent(event) => Self::NodeEvent(NodeEventView {
                id: event.id,
                at: wire::time(event.at),
                kind: event.kind,
                message: event.message,
            }),
            ops::LiveData::Incident(moved) => Self::Incident(moved.into()),
            ops::LiveData::Operation(moved) => Self::Operation(OperationMoved {
                id: moved.id.0,
                kind: moved.kind.into(),
                state: moved.state.into(),
                progress: moved.progress,
                node_id: moved.node_id.0,
                error: moved.error,
            }),
            ops::LiveData::Plugin(moved) => Self::Plugin(RevisionMoved {
                scope: moved.scope,
                plugin: moved.plugin,
                generation: moved.generation,
                digest: moved.digest,
                state: moved.state.into(),
                reason: moved.reason,
            }),
            ops::LiveData::Subscription(moved) => Self::Subscription(SubscriptionMoved {
                id: moved.id.0,
                cause: moved.cause,
                state: moved.state.into(),
                expires_at: moved.expires_at.map(wire::time),
            }),
            // In the order of their times, so that the newest of a name stays.
            ops::LiveData::Observation(mut seen) => {
                seen.sort_by_key(|one| one.at);
                let seen = seen.into_iter();
                Self::Observation(seen.map(|one| (one.name.clone(), one.into())).collect())
            }
        }
    }
}

impl From<ops::NodeMoved> for NodeMoved {
    fn from(moved: ops::NodeMoved) -> Self {
        Self {
            node: NamedNode {
                id: moved.node.id.0,
                name: moved.node.name,
            },
            dimension: moved.dimension.into(),
            from: moved.from,
            to: moved.to,
            cause: moved.cause,
            display_state: moved.display_state,
            reasons: moved.reasons.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<ops::IncidentMoved> for IncidentMoved {
    fn from(moved: ops::IncidentMoved) -> Self {
        Self {
            id: moved.id.0,
            event: moved.event.into(),
            state: moved.state.into(),
            severity: moved.severity.into(),
            category: moved.category,
            title: moved.title,
            subject: IncidentSubject {
                kind: moved.subject.kind.into(),
                id: moved.subject.id,
                name: moved.subject.name,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use host_domain::ids::NodeId;
    use host_domain::observation::{Observation, Scalar};
    use host_domain::time::Millis;
    use serde_json::json;

    use super::*;

    fn shown(what: ops::LiveData) -> serde_json::Value {
        let event = ops::LiveEvent {
            seq: None,
            node_id: Some(NodeId(Uuid::nil())),
            chain: Some("toy".to_owned()),
            at: Millis(1_000),
            what,
        };
        let view = EventView::from(event);
        let json = serde_json::to_value(&view).unwrap();
        assert_eq!(
            serde_json::from_value::<EventView>(json.clone()).unwrap(),
            view,
            "a client of ours reads it"
        );
        json
    }

    #[test]
    fn a_measured_value_is_written_as_in_every_other_answer() {
        let seen = |value, at| Observation {
            name: "node.height".to_owned(),
            value,
            at: Millis(at),
        };
        let json = shown(ops::LiveData::Observation(vec![
            seen(Scalar::Int(7), 2_000),
            seen(Scalar::Absent, 1_000),
        ]));
        let wanted = json!({
            "seq": null, "node_id": Uuid::nil(), "chain": "toy", "at": "1970-01-01T00:00:01Z",
            "kind": "observation",
            "data": { "node.height": { "value": 7, "at": "1970-01-01T00:00:02Z" } },
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn a_nodes_event_has_a_time_that_people_and_programs_read() {
        let json = shown(ops::LiveData::NodeEvent(ops::NodeHappening {
            id: "1".to_owned(),
            at: Millis(0),
            kind: "process_started".to_owned(),
            message: "m".to_owned(),
        }));
        assert_eq!(json["data"]["at"], "1970-01-01T00:00:00Z");
    }
}
