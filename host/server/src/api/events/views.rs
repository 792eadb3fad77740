//! Events as the API shows them: what the log keeps is the domain's, what a client reads is as in every other answer.

use host_wire::values::time;
use host_wire::{
    EventData, EventView, IncidentMoved, IncidentSubject, NamedNode, NodeEventView, NodeMoved,
    OperationMoved, RevisionMoved, SubscriptionMoved,
};

use crate::ops;

/// The event as a client reads it.
pub(super) fn event_view(event: ops::LiveEvent) -> EventView {
    EventView {
        seq: event.seq,
        node_id: event.node_id.map(|id| id.0),
        chain: event.chain,
        at: time(event.at),
        what: event_data(event.what),
    }
}

fn event_data(data: ops::LiveData) -> EventData {
    match data {
        ops::LiveData::NodeTransition(moved) => EventData::NodeTransition(node_moved(moved)),
        ops::LiveData::NodeEvent(event) => EventData::NodeEvent(NodeEventView {
            id: event.id,
            at: time(event.at),
            kind: event.kind,
            message: event.message,
        }),
        ops::LiveData::Incident(moved) => EventData::Incident(incident_moved(moved)),
        ops::LiveData::Operation(moved) => EventData::Operation(OperationMoved {
            id: moved.id.0,
            kind: moved.kind.into(),
            state: moved.state.into(),
            progress: moved.progress,
            node_id: moved.node_id.0,
            error: moved.error,
        }),
        ops::LiveData::Plugin(moved) => EventData::Plugin(RevisionMoved {
            scope: moved.scope,
            plugin: moved.plugin,
            generation: moved.generation,
            digest: moved.digest,
            state: moved.state.into(),
            reason: moved.reason,
        }),
        ops::LiveData::Subscription(moved) => EventData::Subscription(SubscriptionMoved {
            id: moved.id.0,
            cause: moved.cause,
            state: moved.state.into(),
            expires_at: moved.expires_at.map(time),
        }),
        // In the order of their times, so that the newest of a name stays.
        ops::LiveData::Observation(mut seen) => {
            seen.sort_by_key(|one| one.at);
            let seen = seen.into_iter();
            EventData::Observation(seen.map(|one| (one.name.clone(), one.into())).collect())
        }
    }
}

fn node_moved(moved: ops::NodeMoved) -> NodeMoved {
    NodeMoved {
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

fn incident_moved(moved: ops::IncidentMoved) -> IncidentMoved {
    IncidentMoved {
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

#[cfg(test)]
mod tests {
    use host_domain::ids::NodeId;
    use host_domain::observation::{Observation, Scalar};
    use host_domain::time::Millis;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn shown(what: ops::LiveData) -> serde_json::Value {
        let event = ops::LiveEvent {
            seq: None,
            node_id: Some(NodeId(Uuid::nil())),
            chain: Some("toy".to_owned()),
            at: Millis(1_000),
            what,
        };
        let view = event_view(event);
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
