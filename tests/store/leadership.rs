//! Leaders' epochs and single values.

use std::time::Duration;

use host_domain::time::Millis;
use host_server::store::{Db, StoreError};

use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    an_older_leader_is_refused(db).await;
    a_new_tenure_waits_for_a_write_of_the_old_one(db).await;
    a_value_is_set_again(db).await;
}

async fn take(db: &Db, holder: &str) -> i64 {
    let mut tx = db.begin().await.unwrap();
    let epoch = tx
        .take_leader_epoch("health", holder, Millis(1))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    epoch
}

async fn an_older_leader_is_refused(db: &Db) {
    assert_eq!(db.leader_epoch("health").await.unwrap(), None);
    let (one, two) = tokio::join!(take(db, "one"), take(db, "two"));
    assert_eq!(one.min(two) + 1, one.max(two));
    let newest = db.leader_epoch("health").await.unwrap().unwrap();
    let winner = if one > two { "one" } else { "two" };
    assert_eq!(
        (newest.name.as_str(), newest.epoch, newest.holder.as_str()),
        ("health", 2, winner)
    );
    assert_eq!(newest.taken_at, Millis(1));
    let mut tx = db.begin().await.unwrap();
    tx.check_leader_epoch("health", 2).await.unwrap();
    for (name, epoch) in [("health", 1), ("health", 3), ("other", 1)] {
        let refused = tx.check_leader_epoch(name, epoch).await;
        assert!(
            matches!(refused, Err(StoreError::Fenced { .. })),
            "{refused:?}"
        );
    }
}

async fn a_new_tenure_waits_for_a_write_of_the_old_one(db: &Db) {
    let epoch = take(db, "old").await;
    let mut old = db.begin().await.unwrap();
    old.check_leader_epoch("health", epoch).await.unwrap();
    let next = take(db, "new");
    tokio::pin!(next);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut next).await;
    assert!(early.is_err(), "the old leader had not ended its write");
    old.commit().await.unwrap();
    assert_eq!(next.await, epoch + 1);
}

async fn a_value_is_set_again(db: &Db) {
    assert_eq!(db.meta("installation").await.unwrap(), None);
    for value in ["one", "two"] {
        let mut tx = db.begin().await.unwrap();
        tx.set_meta("installation", value).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(
            db.meta("installation").await.unwrap().as_deref(),
            Some(value)
        );
    }
    db.close().await;
    assert!(db.meta("installation").await.unwrap_err().is_retryable());
}
