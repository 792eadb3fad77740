//! The audit log: appended, filtered, read by pages, and deleted from its old end.

use host_domain::time::Millis;
use host_store::{AuditEntry, AuditFilter, Db};

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    append(db).await;
    entries_are_read_newest_first_and_by_pages(db).await;
    filters_choose_entries(db).await;
    old_entries_are_deleted(db).await;
}

fn entry(at: i64, actor: &str, action: &str, object: &str) -> AuditEntry {
    AuditEntry {
        seq: 0,
        at: Millis(at),
        actor: actor.to_owned(),
        action: action.to_owned(),
        object: object.to_owned(),
        request_id: (actor != "host").then(|| format!("r-{at}")),
        details: if at == 1 {
            serde_json::json!({ "name": "a" })
        } else {
            serde_json::Value::Null
        },
    }
}

fn entries() -> [AuditEntry; 5] {
    [
        entry(1, "alice", "create_node", "node/1"),
        entry(2, "bob", "create_node", "node/12"),
        entry(3, "host", "terminate_node", "node/1"),
        entry(4, "alice", "export_key", "node/1/key/a"),
        entry(5, "alice", "revoke_agent", "agent/1"),
    ]
}

async fn append(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    for entry in entries() {
        tx.append_audit(&entry).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn times(db: &Db, filter: AuditFilter) -> Vec<i64> {
    let found = db.list_audit(&filter, None, 9).await.unwrap();
    found.iter().map(|entry| entry.at.0).collect()
}

async fn entries_are_read_newest_first_and_by_pages(db: &Db) {
    let all = AuditFilter::default();
    let first = db.list_audit(&all, None, 2).await.unwrap();
    let rest = db.list_audit(&all, Some(first[1].seq), 9).await.unwrap();
    let read = [first, rest].concat();
    assert!(read.is_sorted_by(|one, two| one.seq > two.seq), "{read:?}");
    let read = read.into_iter().rev().map(|entry| AuditEntry { seq: 0, ..entry });
    assert_eq!(read.collect::<Vec<_>>(), entries());
}

async fn filters_choose_entries(db: &Db) {
    let text = |text: &str| Some(text.to_owned());
    let object = |object: &str| AuditFilter {
        object: text(object),
        ..AuditFilter::default()
    };
    assert_eq!(times(db, object("node/1")).await, [4, 3, 1], "not node/12");
    assert_eq!(times(db, object("node")).await, [4, 3, 2, 1]);
    assert_eq!(times(db, object("nod")).await, [0; 0]);
    let alice = AuditFilter {
        actor: text("alice"),
        ..AuditFilter::default()
    };
    assert_eq!(times(db, alice.clone()).await, [5, 4, 1]);
    let created = AuditFilter {
        action: text("create_node"),
        ..alice
    };
    assert_eq!(times(db, created).await, [1]);
    let between = AuditFilter {
        since: Some(Millis(2)),
        until: Some(Millis(4)),
        ..AuditFilter::default()
    };
    assert_eq!(times(db, between).await, [3, 2]);
}

async fn old_entries_are_deleted(db: &Db) {
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.prune_audit(Millis(3), 1).await.unwrap(), 1, "a limit");
    assert_eq!(tx.prune_audit(Millis(3), 9).await.unwrap(), 1);
    assert_eq!(tx.prune_audit(Millis(3), 9).await.unwrap(), 0);
    tx.commit().await.unwrap();
    assert_eq!(times(db, AuditFilter::default()).await, [5, 4, 3]);
}
