//! Keys: for the agent that the node is placed with, and for no other.

use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{KeyAlgorithm, NodeKey, SealedKey};
use host_domain::migration::view_of;
use host_domain::node::Placement;
use host_domain::time::Clock as _;
use host_gateway::GatewayOptions;
use proto::v1;
use proto::v1::host_message::Message as Hear;
use tonic::Code;
use uuid::Uuid;

use super::bed::{Bed, until};

async fn keep_key(bed: &Bed, node_id: NodeId, name: &str) {
    let key = NodeKey {
        id: KeyId(Uuid::now_v7()),
        node_id,
        name: name.to_owned(),
        algorithm: KeyAlgorithm::Bytes32,
        public_key: Vec::new(),
        sealed: SealedKey {
            master_key: "m".to_owned(),
            data_key: vec![1],
            material: b"sealed".to_vec(),
        },
        created_at: bed.clock.now(),
        delete_after: None,
        backup: None,
        version: 1,
    };
    let mut tx = bed.db.begin().await.unwrap();
    assert!(tx.insert_node_key(&key).await.unwrap());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_agent_gets_the_keys_of_its_own_nodes_only() {
    let bed = Bed::start().await;
    let (own, node) = bed.agent("one").await;
    let (other, _) = bed.agent("two").await;
    keep_key(&bed, node, "p2p").await;
    let ask = |node_id: String, name: &str| v1::FetchKeyRequest {
        node_id,
        name: name.to_owned(),
    };
    let given = own.client().fetch_key(ask(node.to_string(), "p2p")).await;
    assert_eq!(given.unwrap().into_inner().material, b"sealed");
    for (agent, request) in [
        (&other, ask(node.to_string(), "p2p")),
        (&own, ask(node.to_string(), "engine")),
        (&own, ask(Uuid::now_v7().to_string(), "p2p")),
        (&own, ask("no id".to_owned(), "p2p")),
    ] {
        let refused = agent.client().fetch_key(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{request:?}");
    }
    let mut tx = bed.db.begin().await.unwrap();
    tx.retire_node_keys(node, bed.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    let refused = own.client().fetch_key(ask(node.to_string(), "p2p")).await;
    assert_eq!(
        refused.unwrap_err().code(),
        Code::PermissionDenied,
        "a retired key is nobody's"
    );
}

/// The nodes of the next confirmation, if the beat before this question got one.
async fn confirmed(
    session: &mut crate::support::fake_agent::Session,
    bed: &Bed,
    nodes: &[NodeId],
) -> Option<Vec<String>> {
    session.beat(nodes).await;
    let marker = v1::NodeEventBatch { events: Vec::new() };
    session
        .say(v1::agent_message::Message::Events(marker))
        .await;
    let lease = u64::try_from(GatewayOptions::default().lease.as_millis()).unwrap();
    let mut found = None;
    loop {
        match session.hear_else().await {
            Hear::BeatConfirmed(beat) => {
                assert_eq!(
                    (beat.sequence, beat.lease_ms),
                    (1, lease),
                    "{}",
                    bed.clock.now()
                );
                found = Some(beat.node_ids);
            }
            Hear::EventsStored(_) => return found,
            _ => {}
        }
    }
}

#[tokio::test]
async fn leases_are_prolonged_for_nodes_with_keys_until_they_are_taken_away() {
    let bed = Bed::start().await;
    let host = bed.host("one").await;
    let token = bed.token(host).await;
    let agent = bed.enrol(&token).await.unwrap();
    let (plain, keyed) = (bed.node(host).await, bed.node(host).await);
    keep_key(&bed, keyed, "p2p").await;
    let mut session = agent.connect().await.unwrap();
    let both = [plain, keyed];
    assert_eq!(confirmed(&mut session, &bed, &[plain]).await, None);
    let expected = Some(vec![keyed.to_string()]);
    assert_eq!(confirmed(&mut session, &bed, &both).await, expected);

    let mut tx = bed.db.begin().await.unwrap();
    assert!(
        tx.set_placement(keyed, &Placement::default())
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    // What the gateway has read it may believe for so long, and the fence allows for it.
    bed.clock.advance(view_of(GatewayOptions::default().lease));
    assert_eq!(confirmed(&mut session, &bed, &both).await, None);
    // Several beats may be written as one, so the newest one's time tells that it came.
    until("the other node still beats", async || {
        let newest = bed.db.heartbeat(plain).await.unwrap();
        newest.is_some_and(|newest| newest.last_heartbeat == bed.clock.now())
    })
    .await;
}

#[tokio::test]
async fn a_key_that_a_person_has_to_bring_is_waited_for() {
    let bed = Bed::start().await;
    let (own, node) = bed.agent("one").await;
    let (other, _) = bed.agent("two").await;
    let wanted = v1::FetchKeyRequest {
        node_id: node.to_string(),
        name: "brought".to_owned(),
    };
    let waits = own.client().fetch_key(wanted.clone()).await.unwrap_err();
    assert_eq!(waits.code(), Code::NotFound, "{waits:?}");
    let refused = other.client().fetch_key(wanted.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    keep_key(&bed, node, "brought").await;
    let given = own.client().fetch_key(wanted).await.unwrap();
    assert_eq!(given.into_inner().material, b"sealed");
}
