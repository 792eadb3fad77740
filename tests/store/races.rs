//! Writers in each other's way: one wins, the other is told so, reads again, and nothing is lost.

use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::node::{Condition, Node, SyncStatus};
use host_domain::time::Millis;
use host_store::{Db, DbOptions, NewCondition, StoreError, Tx, Undone};
use sqlx::Connection;

use super::builders::{node, stored_node};
use crate::support::database::TestDb;

const WRITERS: i64 = 6;
const ROUNDS: i64 = 5;

pub(crate) async fn contract(test: &TestDb) {
    every_writer_wins_in_the_end_and_no_write_is_lost(&test.db).await;
    one_of_two_readers_of_a_version_is_told_that_it_is_late(&test.db).await;
    roles_share_what_they_write_and_wake_each_other(&test.db).await;
    if test.db.is_sqlite() {
        a_file_that_another_process_writes_is_waited_for_and_tried_again(test).await;
    } else {
        of_two_in_each_others_way_one_is_undone_and_tries_again(&test.db).await;
    }
}

/// Reads, decides, writes if nobody was faster.
async fn touch(db: &Db, id: NodeId) -> Result<bool, StoreError> {
    let read = db.node(id).await?.unwrap();
    // Others come in between.
    tokio::task::yield_now().await;
    let mut tx = db.begin().await?;
    let at = read.updated_at.plus(Duration::from_millis(1));
    match set(&mut tx, &read, read.condition, at).await {
        Err(StoreError::Raced(_)) => return Ok(false),
        outcome => outcome?,
    }
    tx.commit().await?;
    Ok(true)
}

async fn set(
    tx: &mut Tx,
    node: &Node,
    condition: Condition,
    at: Millis,
) -> Result<(), StoreError> {
    let new = NewCondition {
        node_id: node.id,
        seen_version: node.state_version,
        condition,
        reasons: &node.reasons,
        at,
    };
    tx.set_conditions(&[new]).await
}

async fn every_writer_wins_in_the_end_and_no_write_is_lost(db: &Db) {
    let node = stored_node(db, "wanted-by-all").await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (db, id) = (db.clone(), node.id);
            tokio::spawn(async move {
                for _ in 0..ROUNDS {
                    while !host_store::retried(|| touch(&db, id)).await.unwrap() {}
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let after = db.node(node.id).await.unwrap().unwrap();
    let writes = WRITERS * ROUNDS;
    assert_eq!(after.state_version, node.state_version + writes);
    assert_eq!(after.updated_at, Millis(node.updated_at.0 + writes));
}

async fn one_of_two_readers_of_a_version_is_told_that_it_is_late(db: &Db) {
    let node = stored_node(db, "wanted-by-two").await;
    let set = async |sync_status| {
        let mut tx = db.begin().await.unwrap();
        let to = Condition {
            sync_status,
            ..node.condition
        };
        set(&mut tx, &node, to, Millis(2_000)).await?;
        tx.commit().await
    };
    let (one, two) = tokio::join!(set(SyncStatus::Syncing), set(SyncStatus::Synced));
    let late = if one.is_ok() { &two } else { &one };
    assert!(
        matches!(late, Err(StoreError::Raced(id)) if *id == node.id),
        "{one:?} {two:?}"
    );
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    let stored = db.node(node.id).await.unwrap().unwrap();
    let expected = if one.is_ok() {
        SyncStatus::Syncing
    } else {
        SyncStatus::Synced
    };
    assert_eq!(stored.condition.sync_status, expected);
}

async fn roles_share_what_they_write_and_wake_each_other(db: &Db) {
    let small = DbOptions {
        connections_max: 1,
        ..DbOptions::default()
    };
    let role = db.with_options(&small).await.unwrap();
    let mut changes = role.changes();
    changes.mark_unchanged();
    let stored = stored_node(db, "seen-by-both").await;
    assert!(role.node(stored.id).await.unwrap().is_some());
    assert!(changes.has_changed().unwrap());
    let before = *changes.borrow_and_update();
    db.poll_now();
    let after = *changes.borrow();
    assert_eq!((after.any, after.logged), (before.any + 1, before.logged));
    if !db.is_sqlite() {
        role.close().await;
        assert!(db.node(stored.id).await.unwrap().is_some());
    }
}

/// Each writes what the other has written and not committed.
async fn of_two_in_each_others_way_one_is_undone_and_tries_again(db: &Db) {
    let (one, two) = (stored_node(db, "one").await, stored_node(db, "two").await);
    let write = async |tx: &mut Tx, id| tx.set_operation(id, None).await.map(drop);
    let mut first = db.begin().await.unwrap();
    let mut second = db.begin().await.unwrap();
    write(&mut first, one.id).await.unwrap();
    write(&mut second, two.id).await.unwrap();
    let (a, b) = tokio::join!(
        async {
            let outcome = write(&mut first, two.id).await;
            // An undone transaction lets go, so that the other one can go on.
            drop(first);
            outcome
        },
        async {
            let outcome = write(&mut second, one.id).await;
            drop(second);
            outcome
        }
    );
    let undone = a.err().or(b.err()).unwrap();
    assert!(undone.is_undone() && undone.is_retryable(), "{undone:?}");
}

async fn a_file_that_another_process_writes_is_waited_for_and_tried_again(test: &TestDb) {
    let impatient = DbOptions {
        statement_timeout: Duration::from_millis(20),
        ..DbOptions::default()
    };
    let db = Db::open(&test.url, &impatient).await.unwrap();
    let mut other = sqlx::SqliteConnection::connect(&test.url).await.unwrap();
    let begin = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other);
    begin.await.unwrap();
    let refused = db.begin().await.unwrap_err();
    assert!(refused.is_undone(), "{refused:?}");
    let node = node("after-the-other");
    let other = tokio::sync::Mutex::new(other);
    let insert = host_store::retried(|| async {
        let mut tx = match db.begin().await {
            Ok(tx) => tx,
            Err(error) => {
                // It ends while this one waits to try again.
                let mut other = other.lock().await;
                drop(sqlx::raw_sql("ROLLBACK").execute(&mut *other).await);
                return Err(error);
            }
        };
        tx.insert_node(&node).await?;
        tx.commit().await
    });
    insert.await.unwrap();
    assert!(db.node(node.id).await.unwrap().is_some());
    db.close().await;
}
