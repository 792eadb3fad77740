//! Leaders' epochs and single values.

use std::time::Duration;

use host_domain::time::Millis;
use host_store::{Db, Fence, StoreError};

use crate::support::database::TestDb;
use crate::support::wait::eventually;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    an_older_leader_is_refused(test).await;
    a_new_tenure_waits_for_a_write_of_the_old_one(db).await;
    a_fenced_database_refuses_all_writes_of_an_older_tenure(test).await;
    one_contender_leads_and_silence_ends_it(db).await;
    the_first_claim_of_a_value_counts(db).await;
    a_value_is_set_again(test).await;
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

async fn an_older_leader_is_refused(test: &TestDb) {
    const NEWEST: &str = "SELECT name, CAST(epoch AS TEXT), holder, CAST(taken_at AS TEXT) FROM leader_epochs";
    let db = &test.db;
    assert!(test.raw_rows(NEWEST).await.is_empty());
    let (one, two) = tokio::join!(take(db, "one"), take(db, "two"));
    assert_eq!(one.min(two) + 1, one.max(two));
    let winner = if one > two { "one" } else { "two" };
    assert_eq!(test.raw_rows(NEWEST).await, [["health", "2", winner, "1"]]);
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

async fn a_fenced_database_refuses_all_writes_of_an_older_tenure(test: &TestDb) {
    let db = &test.db;
    let name = "health".to_owned();
    let epoch = take(db, "old").await;
    let old = db.fenced(Fence { name, epoch });
    let mut tx = old.begin().await.unwrap();
    tx.set_meta("led", "by the old one").await.unwrap();
    tx.commit().await.unwrap();
    let mut changes = db.changes();
    changes.mark_unchanged();
    take(db, "new").await;
    let refused = old.begin().await;
    assert!(
        matches!(refused, Err(StoreError::Fenced { .. })),
        "{refused:?}"
    );
    // What is not the leader's work goes on, and reading is never refused.
    assert_eq!(value(test, "led").await.as_deref(), Some("by the old one"));
    assert!(old.list_agents(None, 1).await.is_ok());
    drop(db.begin().await.unwrap());
}

/// On SQLite the only process leads; on PostgreSQL one session does.
async fn one_contender_leads_and_silence_ends_it(db: &Db) {
    let lease = Duration::from_millis(600);
    let mut first = db.contend(lease).await.unwrap();
    let mut second = db.contend(lease).await.unwrap();
    assert!(first.try_lead("fleet").await.unwrap());
    assert_eq!(second.try_lead("fleet").await.unwrap(), db.is_sqlite());
    assert!(second.try_lead("another fleet").await.unwrap());
    if db.is_sqlite() {
        return first.leave().await.unwrap();
    }
    // Longer than the lease, but not silent.
    for _ in 0..5 {
        tokio::time::sleep(lease / 4).await;
        first.renew().await.unwrap();
        assert!(!second.try_lead("fleet").await.unwrap());
    }
    let taken = eventually("the silent leader is out", lease * 5, async || {
        let tried = second.try_lead("fleet").await.unwrap();
        tried.then_some(())
    });
    taken.await;
    assert!(first.renew().await.is_err(), "it learns that it is out");
    let mut third = db.contend(lease).await.unwrap();
    assert!(!third.try_lead("fleet").await.unwrap());
    second.leave().await.unwrap();
    eventually("the lead is handed over", lease, async || {
        third.try_lead("fleet").await.unwrap().then_some(())
    })
    .await;
}

async fn the_first_claim_of_a_value_counts(db: &Db) {
    let claim = async |value: &str| {
        let mut tx = db.begin().await.unwrap();
        let counts = tx.claim_meta("claimed", value).await.unwrap();
        tx.commit().await.unwrap();
        counts
    };
    let (one, two) = tokio::join!(claim("one"), claim("two"));
    assert_eq!(one, two);
    assert_eq!(claim("three").await, one);
}

async fn a_value_is_set_again(test: &TestDb) {
    let db = &test.db;
    assert_eq!(value(test, "installation").await, None);
    for set in ["one", "two"] {
        let mut tx = db.begin().await.unwrap();
        tx.set_meta("installation", set).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(value(test, "installation").await.as_deref(), Some(set));
    }
    db.close().await;
    assert!(db.list_agents(None, 1).await.unwrap_err().is_retryable());
}

async fn value(test: &TestDb, name: &str) -> Option<String> {
    let text = format!("SELECT value FROM meta WHERE name = '{name}'");
    test.raw_rows(&text).await.pop().map(|mut row| row.remove(0))
}
