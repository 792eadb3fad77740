//! The event log: numbered in the order of commits, without gaps.

use host_domain::ids::NodeId;
use host_domain::time::Millis;
use host_store::{Db, NewLogEntry};
use uuid::Uuid;

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    an_entry_comes_back_as_it_was(db).await;
    a_late_commit_is_not_passed_by(db).await;
    many_entries_are_few_statements(db).await;
    the_old_is_pruned(db).await;
}

fn entry(at: i64, kind: &str) -> NewLogEntry {
    NewLogEntry {
        at: Millis(at),
        kind: kind.to_owned(),
        node_id: None,
        chain: None,
        payload: serde_json::json!({"b": 1, "a": [null]}),
    }
}

async fn append(db: &Db, entries: Vec<NewLogEntry>) {
    let mut tx = db.begin().await.unwrap();
    for entry in entries {
        tx.append_event_log(entry);
    }
    tx.commit().await.unwrap();
}

async fn an_entry_comes_back_as_it_was(db: &Db) {
    assert_eq!(db.event_log_last_seq().await.unwrap(), 0);
    let full = NewLogEntry {
        node_id: Some(NodeId(Uuid::now_v7())),
        chain: Some("anvil-devnet".to_owned()),
        ..entry(1, "incident")
    };
    append(db, vec![full.clone(), entry(2, "node_event")]).await;
    let read = db.event_log_after(0, 10).await.unwrap();
    assert_eq!((read[0].seq, &read[0].entry), (1, &full));
    assert_eq!((read[1].seq, &read[1].entry), (2, &entry(2, "node_event")));
    assert_eq!(db.event_log_after(1, 10).await.unwrap(), read[1..]);
    assert_eq!(db.event_log_after(0, 1).await.unwrap(), read[..1]);
    assert_eq!(db.event_log_last_seq().await.unwrap(), 2);
}

async fn a_late_commit_is_not_passed_by(db: &Db) {
    if db.is_sqlite() {
        // There is one writer: nobody can be late.
        return;
    }
    let mut late = db.begin().await.unwrap();
    late.append_event_log(entry(3, "late"));
    append(db, vec![entry(3, "early")]).await;
    late.commit().await.unwrap();
    let kinds: Vec<_> = db
        .event_log_after(2, 10)
        .await
        .unwrap()
        .into_iter()
        .map(|read| (read.seq, read.entry.kind))
        .collect();
    assert_eq!(kinds, [(3, "early".to_owned()), (4, "late".to_owned())]);
}

async fn many_entries_are_few_statements(db: &Db) {
    let before = db.event_log_last_seq().await.unwrap();
    append(db, (0..1_500).map(|_| entry(5, "many")).collect()).await;
    let read = db.event_log_after(before, 2_000).await.unwrap();
    assert!(
        read.iter()
            .map(|read| read.seq)
            .eq(before + 1..=before + 1_500)
    );
    let mut tx = db.begin().await.unwrap();
    tx.append_event_log(entry(5, "never"));
    tx.rollback().await.unwrap();
    assert_eq!(db.event_log_last_seq().await.unwrap(), before + 1_500);
}

async fn the_old_is_pruned(db: &Db) {
    let last = db.event_log_last_seq().await.unwrap();
    let mut tx = db.begin().await.unwrap();
    assert_eq!(tx.prune_event_log(Millis(3), 1).await.unwrap(), 1);
    assert_eq!(tx.prune_event_log(Millis(3), 10).await.unwrap(), 1);
    assert_eq!(
        tx.prune_event_log(Millis(9), 10_000).await.unwrap(),
        u64::try_from(last).unwrap() - 2
    );
    tx.commit().await.unwrap();
    assert_eq!(db.event_log_last_seq().await.unwrap(), last);
    append(db, vec![entry(9, "next")]).await;
    let kept = db.event_log_after(0, 10).await.unwrap();
    assert_eq!(kept.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [last + 1]);
}
