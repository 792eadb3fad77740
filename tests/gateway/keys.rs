//! Keys: for the agent that the node is placed with, and for no other.

use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{KeyAlgorithm, NodeKey, SealedKey};
use host_domain::time::Clock as _;
use proto::v1;
use tonic::Code;
use uuid::Uuid;

use super::bed::Bed;

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
