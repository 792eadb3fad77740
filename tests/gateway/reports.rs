//! What agents report: observations, events, failing collectors; and the components that they fetch.

use std::fs;
use std::time::Duration;

use host_domain::observation::Scalar;
use host_domain::plugin::{Grants, Limits};
use host_domain::time::{Clock, Millis};
use host_gateway::{AgentAssignments, CollectorAssignment, NodeAssignment};
use proto::v1;
use proto::v1::agent_message::Message as Say;
use proto::v1::host_message::Message as Hear;
use proto::v1::observation::Value;
use tonic::Code;
use uuid::Uuid;

use super::bed::{Bed, until};

fn batch(sequence: u64, node: &str, at: Millis, items: &[(&str, Value)]) -> Say {
    let item = |(name, value): &(&str, Value)| v1::Observation {
        name: (*name).to_owned(),
        value: Some(value.clone()),
    };
    let collection = v1::Collection {
        node_id: node.to_owned(),
        collector: "evm".to_owned(),
        at_ms: at.0,
        observations: items.iter().map(item).collect(),
        error: String::new(),
        plugin_fault: false,
        paused: false,
    };
    Say::Observations(v1::ObservationBatch {
        sequence,
        collections: vec![collection],
    })
}

#[tokio::test]
async fn observations_are_stored_once_acknowledged_and_shown_live() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let mut session = agent.connect().await.unwrap();
    let now = bed.clock.now();
    let items = [
        ("node.height", Value::Integer(7)),
        ("Bad Name", Value::Integer(7)),
        ("node.load", Value::Real(f64::NAN)),
    ];
    let shown = format!("observed {node} 1");
    for n_shown in 1..=2 {
        session.say(batch(3, &node.to_string(), now, &items)).await;
        assert_eq!(session.hear_stored().await, 3);
        let latest = bed.db.latest_observations(&[node]).await.unwrap();
        let of_node = &latest[&node];
        assert_eq!(of_node.len(), 1, "{of_node:?}");
        assert_eq!(of_node["node.height"].value, Scalar::Int(7));
        until("the live observation", async || {
            let lines = bed.events.lines();
            lines.iter().filter(|line| **line == shown).count() == n_shown
        })
        .await;
    }
    let (from, to) = (now.minus(Duration::from_mins(1)), now);
    let samples = bed
        .db
        .samples(node, "node.height", from, to, 10)
        .await
        .unwrap();
    assert_eq!(samples.len(), 1);
}

#[tokio::test]
async fn a_failing_collector_is_told_with_whose_fault_it_is() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let mut session = agent.connect().await.unwrap();
    let failed = v1::Collection {
        node_id: node.to_string(),
        collector: "evm".to_owned(),
        at_ms: bed.clock.now().0,
        observations: Vec::new(),
        error: "ran out of time".to_owned(),
        plugin_fault: true,
        paused: false,
    };
    let batch = v1::ObservationBatch {
        sequence: 1,
        collections: vec![failed],
    };
    session.say(Say::Observations(batch)).await;
    assert_eq!(session.hear_stored().await, 1);
    assert!(
        bed.events
            .lines()
            .contains(&"collector evm true ran out of time".to_owned())
    );
}

#[tokio::test]
async fn an_event_is_stored_once_by_its_id() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let (_other, foreign) = bed.agent("two").await;
    let mut session = agent.connect().await.unwrap();
    let event = |node: &str, kind: &str| v1::NodeEvent {
        id: Uuid::now_v7().to_string(),
        node_id: node.to_owned(),
        at_ms: bed.clock.now().0,
        kind: kind.to_owned(),
        message: "exit status 1".to_owned(),
    };
    let events = vec![
        event(&node.to_string(), "process_exited"),
        event(&foreign.to_string(), "process_exited"),
        event(&node.to_string(), "Not a kind"),
    ];
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    for _ in 0..2 {
        session
            .say(Say::Events(v1::NodeEventBatch {
                events: events.clone(),
            }))
            .await;
        let Hear::EventsStored(stored) = session.hear_else().await else {
            panic!("not stored events");
        };
        assert_eq!(stored.ids, ids);
    }
    let kept = bed.db.node_events(node, None, 10).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(
        (kept[0].id.as_str(), kept[0].message.as_str()),
        (ids[0].as_str(), "exit status 1")
    );
    assert!(
        bed.db
            .node_events(foreign, None, 10)
            .await
            .unwrap()
            .is_empty()
    );
    let log = bed.db.event_log_after(0, 10).await.unwrap();
    let entries: Vec<_> = log
        .iter()
        .filter(|line| line.entry.kind == "node_event")
        .collect();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].entry.node_id, Some(node));
    assert_eq!(entries[0].entry.chain.as_deref(), Some("chain-a"));
    until("the hook", async || {
        bed.events
            .lines()
            .contains(&format!("event {} process_exited", ids[0]))
    })
    .await;
}

#[tokio::test]
async fn an_agent_fetches_the_components_of_its_assignments_and_no_others() {
    let bed = Bed::start().await;
    let (agent, node) = bed.agent("one").await;
    let folder = bed.folder.path().join("components");
    fs::create_dir(&folder).unwrap();
    // More than one chunk, and not a multiple of its size.
    let bytes: Vec<u8> = (0..700_001_u32).map(|n| n.to_le_bytes()[0]).collect();
    for name in ["sha256:assigned", "sha256:other"] {
        fs::write(folder.join(name), &bytes).unwrap();
    }
    let collector = |digest: &str| CollectorAssignment {
        name: "evm".to_owned(),
        plugin: "evm".to_owned(),
        component_digest: digest.to_owned(),
        config: serde_json::json!({}),
        every: Duration::from_secs(5),
        grants: Grants::default(),
        limits: Limits::default(),
    };
    let of_node = NodeAssignment {
        node_id: node,
        chain: "chain-a".to_owned(),
        node_type: "full".to_owned(),
        ports: [].into(),
        collectors: vec![collector("sha256:assigned"), collector("sha256:gone")],
    };
    bed.source.set(AgentAssignments {
        generation: 1,
        nodes: vec![of_node],
    });
    let fetch = async |digest: &str| {
        let request = v1::FetchComponentRequest {
            digest: digest.to_owned(),
        };
        let mut chunks = agent.client().fetch_component(request).await?.into_inner();
        let mut all = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            all.extend(chunk.data);
        }
        Ok::<_, tonic::Status>(all)
    };
    assert!(fetch("sha256:assigned").await.unwrap() == bytes);
    assert_eq!(
        fetch("sha256:other").await.err().unwrap().code(),
        Code::PermissionDenied
    );
    assert_eq!(
        fetch("sha256:gone").await.err().unwrap().code(),
        Code::NotFound
    );
}
