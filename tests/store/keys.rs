//! Sealed keys of nodes.

use host_domain::ids::{KeyId, NodeId};
use host_domain::key::{KeyAlgorithm, NodeKey, SealedKey};
use host_domain::time::Millis;
use host_store::Db;
use uuid::Uuid;

use super::builders::stored_node;
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_name_is_taken_once(db).await;
    a_wrapping_is_replaced_by_whoever_saw_it_last(db).await;
    retired_keys_go_when_their_time_is_over(db).await;
    a_copy_is_marked_by_whoever_saw_the_key_last(db).await;
}

fn key(node_id: NodeId, name: &str, algorithm: KeyAlgorithm) -> NodeKey {
    NodeKey {
        id: KeyId(Uuid::now_v7()),
        node_id,
        name: name.to_owned(),
        algorithm,
        public_key: vec![0, 255, 7],
        sealed: SealedKey {
            master_key: "old".to_owned(),
            data_key: vec![1; 60],
            material: vec![2; 60],
        },
        created_at: Millis(5),
        delete_after: None,
        backup: None,
        version: 1,
    }
}

async fn insert(db: &Db, key: &NodeKey) -> bool {
    let mut tx = db.begin().await.unwrap();
    let is_new = tx.insert_node_key(key).await.unwrap();
    tx.commit().await.unwrap();
    is_new
}

async fn a_name_is_taken_once(db: &Db) {
    let node = stored_node(db, "names").await;
    let mut all = Vec::new();
    for algorithm in KeyAlgorithm::ALL {
        let key = key(node.id, algorithm.as_str(), algorithm);
        assert!(insert(db, &key).await);
        all.push(key);
    }
    all.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(db.node_keys(node.id).await.unwrap(), all);
    let again = key(node.id, "ed25519", KeyAlgorithm::Bytes32);
    assert!(!insert(db, &again).await, "the first one stays");
    let found = db.node_key(node.id, "ed25519").await.unwrap().unwrap();
    assert_eq!(found.algorithm, KeyAlgorithm::Ed25519);
    assert_eq!(db.node_key(node.id, "none").await.unwrap(), None);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.delete_node_keys(node.id).await.unwrap(), 4);
    assert_eq!(tx.delete_node_keys(node.id).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(db.node_keys(node.id).await.unwrap(), []);
}

async fn a_wrapping_is_replaced_by_whoever_saw_it_last(db: &Db) {
    let node = stored_node(db, "wrappings").await;
    let (one, two) = (
        key(node.id, "one", KeyAlgorithm::X25519),
        key(node.id, "two", KeyAlgorithm::X25519),
    );
    assert!(insert(db, &one).await && insert(db, &two).await);
    let page = db.node_keys_not_wrapped_by("new", None, 1).await.unwrap();
    assert_eq!(page, std::slice::from_ref(&one));
    let rest = db.node_keys_not_wrapped_by("new", Some(one.id), 9).await.unwrap();
    assert_eq!(rest, std::slice::from_ref(&two));
    let wrapped = SealedKey {
        master_key: "new".to_owned(),
        data_key: vec![9; 60],
        ..one.sealed.clone()
    };
    let mut tx = db.begin().await.unwrap();
    let place = Some("file:///copies");
    assert!(tx.rewrap_node_key(one.id, 1, &wrapped, place).await.unwrap());
    assert!(!tx.rewrap_node_key(one.id, 1, &wrapped, None).await.unwrap());
    tx.commit().await.unwrap();
    let found = db.node_key(node.id, "one").await.unwrap().unwrap();
    assert_eq!((found.sealed, found.version), (wrapped, 2));
    assert_eq!(found.backup.as_deref(), place);
    let rest = db.node_keys_not_wrapped_by("new", None, 9).await.unwrap();
    assert_eq!(rest, [two]);
}

async fn retired_keys_go_when_their_time_is_over(db: &Db) {
    let node = stored_node(db, "retired").await;
    assert!(insert(db, &key(node.id, "p2p", KeyAlgorithm::Ed25519)).await);
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.retire_node_keys(node.id, Millis(100)).await.unwrap(), 1);
    assert_eq!(tx.retire_node_keys(node.id, Millis(900)).await.unwrap(), 0);
    assert_eq!(tx.retired_node_keys(Millis(99), 9).await.unwrap(), []);
    tx.commit().await.unwrap();
    let found = db.node_key(node.id, "p2p").await.unwrap().unwrap();
    assert_eq!(found.delete_after, Some(Millis(100)));
    let due = db.retired_node_keys(Millis(100), 9).await.unwrap();
    assert_eq!(due, std::slice::from_ref(&found));
    let mut tx = db.begin().await.unwrap();
    assert!(tx.delete_node_key(found.id).await.unwrap());
    assert!(!tx.delete_node_key(found.id).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(db.node_key(node.id, "p2p").await.unwrap(), None);
}

async fn a_copy_is_marked_by_whoever_saw_the_key_last(db: &Db) {
    let node = stored_node(db, "copies").await;
    let one = key(node.id, "one", KeyAlgorithm::X25519);
    assert!(insert(db, &one).await);
    let wanting = async |place: &str| {
        let keys = db.node_keys_not_backed_up(place, None, 99).await.unwrap();
        keys.iter().any(|key| key.id == one.id)
    };
    assert!(wanting("here").await);
    let mut tx = db.begin().await.unwrap();
    assert!(tx.mark_node_key_backed_up(one.id, 1, "here").await.unwrap());
    assert!(!tx.mark_node_key_backed_up(one.id, 1, "there").await.unwrap());
    tx.commit().await.unwrap();
    assert!(!wanting("here").await && wanting("there").await);
    let after = Some(one.id);
    assert_eq!(db.node_keys_not_backed_up("there", after, 9).await.unwrap(), []);
    let mut tx = db.begin().await.unwrap();
    tx.delete_node_keys(node.id).await.unwrap();
    tx.commit().await.unwrap();
}
