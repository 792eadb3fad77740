//! Nodes and their events.

use std::collections::BTreeMap;

use host_domain::node::{
    ApplicationHealth, Condition, Node, NodeState, Placement, Reason, SyncStatus,
};
use host_domain::time::Millis;
use host_server::store::{Db, NodeEventEntry, NodeFilter, StoreError};

use super::builders::{host, node, operation_id, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_node_comes_back_as_it_was(db).await;
    one_of_two_writers_wins(db).await;
    a_name_is_free_again_when_its_node_is_gone(db).await;
    details_change_without_a_new_version(db).await;
    lists_filter_and_go_on(db).await;
    events_are_appended_once(db).await;
}

async fn a_node_comes_back_as_it_was(db: &Db) {
    let made = stored_node(db, "same").await;
    assert_eq!(db.node(made.id).await.unwrap(), Some(made.clone()));
    assert_eq!(db.node_by_name("same").await.unwrap(), Some(made));
    assert_eq!(db.node(node("none").id).await.unwrap(), None);
    assert_eq!(db.node_by_name("none").await.unwrap(), None);
}

const SYNCED: Condition = Condition {
    state: NodeState::Healthy,
    sync_status: SyncStatus::Synced,
    application_health: ApplicationHealth::Critical,
};

async fn set(db: &Db, node: &Node, seen: i64, to: Condition) -> Option<i64> {
    let mut tx = db.begin().await.unwrap();
    let reasons = [Reason::new("height_stalled", "no block")];
    let version = tx
        .set_condition(node.id, seen, to, &reasons, Millis(2_000))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    version
}

async fn one_of_two_writers_wins(db: &Db) {
    let raced = stored_node(db, "raced").await;
    let (one, two) = tokio::join!(set(db, &raced, 1, SYNCED), set(db, &raced, 1, SYNCED));
    assert_eq!(
        [one, two].into_iter().flatten().collect::<Vec<_>>(),
        vec![2]
    );
    let after = db.node(raced.id).await.unwrap().unwrap();
    assert_eq!(
        (after.condition, after.state_version, after.updated_at),
        (SYNCED, 2, Millis(2_000))
    );
    assert_eq!(after.reasons[0].code, "height_stalled");
    assert_eq!(set(db, &raced, 1, Condition::NEW).await, None);
    assert_eq!(set(db, &node("unknown"), 1, Condition::NEW).await, None);
}

async fn a_name_is_free_again_when_its_node_is_gone(db: &Db) {
    let first = stored_node(db, "again").await;
    let gone = Condition {
        state: NodeState::Terminated,
        ..Condition::NEW
    };
    set(db, &first, 1, gone).await.unwrap();
    let second = stored_node(db, "again").await;
    assert_eq!(
        db.node_by_name("again").await.unwrap().unwrap().id,
        second.id
    );
    // Bringing the first one back would take the name twice.
    let mut tx = db.begin().await.unwrap();
    let back = tx
        .set_condition(first.id, 2, Condition::NEW, &[], Millis(1))
        .await;
    assert!(matches!(back, Err(StoreError::Conflict { .. })), "{back:?}");
}

async fn details_change_without_a_new_version(db: &Db) {
    let made = stored_node(db, "details").await;
    let machine = host("machine-of-details");
    let placement = Placement {
        provider: "local".to_owned(),
        host_id: Some(machine.id),
        host_ip: Some("10.0.0.1".to_owned()),
        ..Placement::default()
    };
    let ports = BTreeMap::from([("rpc".to_owned(), 1), ("p2p".to_owned(), u16::MAX)]);
    let versions = BTreeMap::from([("anvil".to_owned(), "1.4.0".to_owned())]);
    let operation = operation_id();
    let mut tx = db.begin().await.unwrap();
    tx.insert_host(&machine).await.unwrap();
    assert!(tx.set_placement(made.id, &placement).await.unwrap());
    assert!(tx.set_ports(made.id, &ports).await.unwrap());
    assert!(tx.set_binary_versions(made.id, &versions).await.unwrap());
    assert!(tx.set_operation(made.id, Some(operation)).await.unwrap());
    assert!(!tx.set_operation(node("unknown").id, None).await.unwrap());
    tx.commit().await.unwrap();
    let after = db.node(made.id).await.unwrap().unwrap();
    let expected = Node {
        placement,
        ports,
        binary_versions: versions,
        operation_id: Some(operation),
        ..made
    };
    assert_eq!(after, expected);
    let on_host = NodeFilter {
        host_id: Some(machine.id),
        ..NodeFilter::default()
    };
    assert_eq!(
        db.list_nodes(&on_host, None, 10).await.unwrap(),
        vec![expected]
    );
}

async fn lists_filter_and_go_on(db: &Db) {
    let all = db
        .list_nodes(&NodeFilter::default(), None, 100)
        .await
        .unwrap();
    let first = db
        .list_nodes(&NodeFilter::default(), None, 2)
        .await
        .unwrap();
    let rest = db
        .list_nodes(&NodeFilter::default(), Some(first[1].id), 100)
        .await
        .unwrap();
    assert_eq!(all, [first, rest].concat());
    assert!(all.is_sorted_by_key(|node| node.id));
    let count = async |filter: NodeFilter| db.list_nodes(&filter, None, 100).await.unwrap().len();
    let healthy = NodeFilter {
        state: Some(NodeState::Healthy),
        ..NodeFilter::default()
    };
    let shown = NodeFilter {
        display_state: Some("critical".to_owned()),
        ..NodeFilter::default()
    };
    let named = NodeFilter {
        name: Some("again".to_owned()),
        ..NodeFilter::default()
    };
    let elsewhere = NodeFilter {
        chain: Some("other".to_owned()),
        ..NodeFilter::default()
    };
    assert_eq!(
        (
            count(healthy).await,
            count(shown).await,
            count(named).await,
            count(elsewhere).await
        ),
        (1, 1, 2, 0)
    );
}

async fn events_are_appended_once(db: &Db) {
    let made = stored_node(db, "events").await;
    let mut tx = db.begin().await.unwrap();
    let mut appended = Vec::new();
    for number in [1_u8, 2, 3, 3] {
        let event = NodeEventEntry {
            id: number.to_string(),
            node_id: made.id,
            at: Millis(number.into()),
            kind: "process_restarted".to_owned(),
            // PostgreSQL has no NUL in text.
            message: format!("{number}\0"),
        };
        appended.push(tx.append_node_event(&event).await.unwrap());
    }
    assert_eq!(appended, [true, true, true, false]);
    tx.commit().await.unwrap();
    let ids =
        |events: Vec<NodeEventEntry>| events.into_iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(
        ids(db.node_events(made.id, None, 2).await.unwrap()),
        ["3", "2"]
    );
    assert_eq!(
        ids(db.node_events(made.id, Some("2"), 2).await.unwrap()),
        ["1"]
    );
    assert_eq!(
        db.node_events(made.id, None, 1).await.unwrap()[0].message,
        "3\u{fffd}"
    );
}
