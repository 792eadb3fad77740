//! Transactions: all or nothing, seen by those who wait, and errors that say what to do.

use std::time::Duration;

use host_store::{Db, DbOptions, StoreError};

use super::builders::{node, stored_node};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    nothing_counts_before_the_commit(db).await;
    a_commit_wakes_those_who_wait(db).await;
    a_corrupt_row_names_itself(test).await;
    a_failure_says_what_to_do(db).await;
    a_second_migration_changes_nothing(db).await;
}

async fn nothing_counts_before_the_commit(db: &Db) {
    let (dropped, undone) = (node("dropped"), node("undone"));
    let mut tx = db.begin().await.unwrap();
    tx.insert_node(&dropped).await.unwrap();
    assert!(tx.node(dropped.id).await.unwrap().is_some());
    assert!(db.node(dropped.id).await.unwrap().is_none());
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    tx.insert_node(&undone).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(db.node(dropped.id).await.unwrap().is_none());
    assert!(db.node(undone.id).await.unwrap().is_none());
}

async fn a_commit_wakes_those_who_wait(db: &Db) {
    let mut changes = db.changes();
    changes.mark_unchanged();
    stored_node(db, "wakes").await;
    tokio::time::timeout(Duration::from_secs(5), changes.changed())
        .await
        .unwrap()
        .unwrap();
}

async fn a_corrupt_row_names_itself(test: &TestDb) {
    let bad = stored_node(&test.db, "bad").await;
    test.raw(&format!(
        "UPDATE nodes SET ports = '{{' WHERE id = '{}'",
        bad.id
    ))
    .await;
    match test.db.node(bad.id).await {
        Err(StoreError::Corrupt {
            table, column, id, ..
        }) => {
            assert_eq!((table, column, id), ("nodes", "ports", bad.id.to_string()));
        }
        other => panic!("{other:?}"),
    }
    test.raw(&format!(
        "UPDATE nodes SET ports = '{{}}' WHERE id = '{}'",
        bad.id
    ))
    .await;
}

async fn a_failure_says_what_to_do(db: &Db) {
    stored_node(db, "taken").await;
    let mut tx = db.begin().await.unwrap();
    let error = tx.insert_node(&node("taken")).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Conflict {
                what: "a live node of this name"
            }
        ),
        "{error:?}"
    );
    assert!(!error.is_retryable());
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    let event = host_store::NodeEventEntry {
        id: "1".to_owned(),
        node_id: node("nowhere").id,
        at: host_domain::time::Millis(1),
        kind: "x".to_owned(),
        message: "x".to_owned(),
    };
    let error = tx.append_node_events(&[event]).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing), "{error:?}");
    drop(tx);
    for url in [
        "mysql://x",
        "bellwether.db",
        "sqlite::memory:",
        "postgres://[x",
    ] {
        let error = Db::open(url, &DbOptions::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Url(_)), "{url}: {error:?}");
    }
}

async fn a_second_migration_changes_nothing(db: &Db) {
    db.migrate().await.unwrap();
    db.check_schema().await.unwrap();
    assert_eq!(db.schema_version().await.unwrap(), 9);
    assert!(db.pending_migrations().await.unwrap().is_empty());
}
