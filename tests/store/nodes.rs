//! Nodes and their events.

use std::collections::BTreeMap;

use host_domain::ids::NodeId;
use host_domain::node::{
    ApplicationHealth, Condition, Node, NodeState, Placement, Reason, SyncStatus,
};
use host_domain::time::Millis;
use host_store::{Db, NewCondition, NodeEventEntry, NodeFilter, StoreError};

use super::builders::{machine, node, operation_id, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_node_comes_back_as_it_was(db).await;
    one_of_two_writers_wins(db).await;
    a_name_is_free_again_when_its_node_is_gone(db).await;
    details_change_without_a_new_version(db).await;
    lists_filter_and_go_on(db).await;
    events_are_appended_once(db).await;
    all_move_or_none(db).await;
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

/// Sets the conditions of nodes that were seen at a version, or changes nothing.
async fn set(db: &Db, seen: &[(&Node, i64)], condition: Condition) -> Result<(), StoreError> {
    let reasons = [Reason::new("height_stalled", "no block")];
    let new: Vec<_> = seen
        .iter()
        .map(|(node, seen_version)| NewCondition {
            node_id: node.id,
            seen_version: *seen_version,
            condition,
            reasons: &reasons,
            at: Millis(2_000),
        })
        .collect();
    let mut tx = db.begin().await.unwrap();
    tx.set_conditions(&new).await?;
    tx.commit().await
}

fn raced(outcome: Result<(), StoreError>) -> NodeId {
    match outcome {
        Err(StoreError::Raced(id)) => id,
        other => panic!("{other:?}"),
    }
}

async fn one_of_two_writers_wins(db: &Db) {
    let wanted = stored_node(db, "raced").await;
    let seen = [(&wanted, 1)];
    let (one, two) = tokio::join!(set(db, &seen, SYNCED), set(db, &seen, SYNCED));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
    let after = db.node(wanted.id).await.unwrap().unwrap();
    assert_eq!(
        (after.condition, after.state_version, after.updated_at),
        (SYNCED, 2, Millis(2_000))
    );
    assert_eq!(after.reasons[0].code, "height_stalled");
    assert_eq!(raced(set(db, &seen, Condition::NEW).await), wanted.id);
    let unknown = node("unknown");
    assert_eq!(
        raced(set(db, &[(&unknown, 1)], Condition::NEW).await),
        unknown.id
    );
}

async fn all_move_or_none(db: &Db) {
    let (one, two) = (stored_node(db, "one").await, stored_node(db, "two").await);
    let condition_of = async |node: &Node| db.node(node.id).await.unwrap().unwrap().condition;
    set(db, &[], SYNCED).await.unwrap();
    assert_eq!(
        raced(set(db, &[(&one, 1), (&two, 2)], SYNCED).await),
        two.id
    );
    assert_eq!(condition_of(&one).await, Condition::NEW);
    set(db, &[(&one, 1), (&two, 1)], SYNCED).await.unwrap();
    assert_eq!(condition_of(&one).await, SYNCED);
    assert_eq!(condition_of(&two).await, SYNCED);
    let found = db.nodes(&[two.id, node("none").id, one.id]).await.unwrap();
    assert_eq!(
        found.keys().copied().collect::<Vec<_>>(),
        [one.id, two.id],
        "by id, and those that are there"
    );
    assert!(db.nodes(&[]).await.unwrap().is_empty());
}

async fn a_name_is_free_again_when_its_node_is_gone(db: &Db) {
    let first = stored_node(db, "again").await;
    let gone = Condition {
        state: NodeState::Terminated,
        ..Condition::NEW
    };
    set(db, &[(&first, 1)], gone).await.unwrap();
    let second = stored_node(db, "again").await;
    assert_eq!(
        db.node_by_name("again").await.unwrap().unwrap().id,
        second.id
    );
    // Bringing the first one back would take the name twice.
    let back = set(db, &[(&first, 2)], Condition::NEW).await;
    assert!(matches!(back, Err(StoreError::Conflict { .. })), "{back:?}");
}

async fn details_change_without_a_new_version(db: &Db) {
    let made = stored_node(db, "details").await;
    let machine = machine("machine-of-details");
    let placement = Placement {
        provider: "local".to_owned(),
        machine_id: Some(machine.id),
        machine_ip: Some("10.0.0.1".to_owned()),
        ..Placement::default()
    };
    let ports = BTreeMap::from([("rpc".to_owned(), 1), ("p2p".to_owned(), u16::MAX)]);
    let operation = operation_id();
    let mut tx = db.begin().await.unwrap();
    tx.insert_machine(&machine).await.unwrap();
    assert!(tx.set_placement(made.id, &placement).await.unwrap());
    assert!(tx.set_ports(made.id, &ports).await.unwrap());
    assert!(tx.set_operation(made.id, Some(operation)).await.unwrap());
    assert!(!tx.set_operation(node("unknown").id, None).await.unwrap());
    tx.commit().await.unwrap();
    let after = db.node(made.id).await.unwrap().unwrap();
    let expected = Node {
        placement,
        ports,
        operation_id: Some(operation),
        ..made
    };
    assert_eq!(after, expected);
    let on_machine = NodeFilter {
        machine_id: Some(machine.id),
        ..NodeFilter::default()
    };
    assert_eq!(
        db.list_nodes(&on_machine, None, 10).await.unwrap(),
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
    let event = |number: i64| NodeEventEntry {
        id: number.to_string(),
        node_id: made.id,
        at: Millis(number),
        kind: "process_restarted".to_owned(),
        // PostgreSQL has no NUL in text.
        message: format!("{number}\0"),
    };
    for (events, new) in [
        (vec![event(1)], vec!["1"]),
        (vec![event(2), event(1), event(3), event(3)], vec!["2", "3"]),
        (vec![event(2)], vec![]),
        (vec![], vec![]),
    ] {
        let appended = tx.append_node_events(&events).await.unwrap();
        assert_eq!(Vec::from_iter(appended), new, "{events:?}");
    }
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
