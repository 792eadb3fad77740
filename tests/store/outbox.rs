//! The outbox: in order per node, never to two workers, never lost.

use std::collections::BTreeSet;
use std::time::Duration;

use host_domain::event::HealthTransitionEvent;
use host_domain::time::Millis;
use host_store::{ClaimedEvent, Db, DeadLetter, OutboxLag};

use super::builders::{event, node};
use crate::support::database::TestDb;

const LEASE: Duration = Duration::from_millis(100);

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    events_of_a_node_come_one_by_one(db).await;
    two_workers_never_claim_the_same_event(db).await;
    a_lease_that_ends_gives_the_event_back(db).await;
    a_poisoned_event_makes_room(db).await;
    what_was_put_aside_returns_to_its_place(db).await;
}

async fn insert(db: &Db, events: &[HealthTransitionEvent]) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_outbox(events).await.unwrap();
    tx.commit().await.unwrap();
}

async fn claim(db: &Db, worker: &str, now: i64, limit: u32) -> Vec<ClaimedEvent> {
    let mut tx = db.begin().await.unwrap();
    let claimed = tx
        .claim_outbox(worker, Millis(now), LEASE, limit)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    claimed
}

async fn finish(db: &Db, event: &HealthTransitionEvent) -> bool {
    let mut tx = db.begin().await.unwrap();
    let finished = tx.finish_outbox(event.id).await.unwrap();
    tx.commit().await.unwrap();
    finished
}

fn events_of(claimed: &[ClaimedEvent]) -> Vec<HealthTransitionEvent> {
    claimed
        .iter()
        .map(|claimed| claimed.event.clone())
        .collect()
}

async fn events_of_a_node_come_one_by_one(db: &Db) {
    let (a, b) = (node("a"), node("b"));
    let [a1, a2, b1] = [event(&a, 2), event(&a, 3), event(&b, 2)];
    insert(db, &[a1.clone(), a2.clone(), b1.clone()]).await;
    let lag = db.outbox_lag(Millis(25)).await.unwrap();
    assert_eq!(
        lag,
        OutboxLag {
            n_waiting: 3,
            oldest: Duration::from_millis(15)
        }
    );
    assert_eq!(claim(db, "w", 5, 10).await, [], "not due yet");
    let claimed = claim(db, "w", 20, 10).await;
    assert_eq!(events_of(&claimed), [a1.clone(), b1.clone()]);
    assert_eq!(claimed[0].attempts, 1);
    assert!(claimed[0].seq < claimed[1].seq);
    assert_eq!(claim(db, "w", 20, 10).await, [], "both heads are claimed");
    assert!(finish(db, &a1).await);
    assert!(!finish(db, &a1).await);
    assert_eq!(
        events_of(&claim(db, "w", 20, 10).await).as_slice(),
        std::slice::from_ref(&a2)
    );
    assert!(finish(db, &a2).await && finish(db, &b1).await);
    assert_eq!(
        db.outbox_lag(Millis(25)).await.unwrap(),
        OutboxLag::default()
    );
}

async fn two_workers_never_claim_the_same_event(db: &Db) {
    let events: Vec<_> = (0..40)
        .map(|number| event(&node(&number.to_string()), 2))
        .collect();
    insert(db, &events).await;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let (one, two) = tokio::join!(claim(db, "one", 20, 4), claim(db, "two", 20, 4));
        for claimed in one.iter().chain(&two) {
            assert!(seen.insert(claimed.event.id), "claimed twice");
        }
    }
    assert_eq!(seen.len(), events.len());
    for event in &events {
        finish(db, event).await;
    }
}

async fn a_lease_that_ends_gives_the_event_back(db: &Db) {
    let lost = event(&node("lost"), 2);
    insert(db, std::slice::from_ref(&lost)).await;
    assert_eq!(claim(db, "dies", 20, 1).await.len(), 1);
    assert_eq!(claim(db, "next", 119, 1).await, []);
    let again = claim(db, "next", 120, 1).await;
    assert_eq!(again[0].attempts, 2);
    let mut tx = db.begin().await.unwrap();
    // The first worker wakes up late: its claim is not the current one.
    assert!(
        !tx.retry_outbox(lost.id, 1, Millis(0), "late")
            .await
            .unwrap()
    );
    assert!(
        tx.retry_outbox(lost.id, 2, Millis(500), "later")
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert_eq!(claim(db, "next", 499, 1).await, []);
    assert_eq!(claim(db, "next", 500, 1).await[0].attempts, 3);
    assert!(finish(db, &lost).await);
}

async fn a_poisoned_event_makes_room(db: &Db) {
    let poisoned = node("poisoned");
    let [bad, good] = [event(&poisoned, 2), event(&poisoned, 3)];
    insert(db, &[bad.clone(), good.clone()]).await;
    claim(db, "w", 20, 9).await;
    let mut tx = db.begin().await.unwrap();
    assert!(
        tx.to_dead_letter(bad.id, "it breaks", Millis(30))
            .await
            .unwrap()
    );
    assert!(
        !tx.to_dead_letter(bad.id, "it breaks", Millis(30))
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    let letters = db.list_dead_letters(None, 10).await.unwrap();
    assert_eq!(db.n_dead_letters().await.unwrap(), 1);
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0].event, letters[0].attempts), (&bad, 1));
    assert_eq!(
        (letters[0].error.as_str(), letters[0].failed_at),
        ("it breaks", Millis(30))
    );
    assert_eq!(db.list_dead_letters(Some(bad.id), 10).await.unwrap(), []);
    assert_eq!(events_of(&claim(db, "w", 30, 9).await), [good]);
}

async fn what_was_put_aside_returns_to_its_place(db: &Db) {
    let node = node("returns");
    let [bad, good] = [event(&node, 2), event(&node, 3)];
    insert(db, &[bad.clone(), good.clone()]).await;
    let claimed = claim(db, "w", 20, 9).await;
    assert!(!claimed[0].is_requeued);
    put_aside(db, &bad).await;
    assert_eq!(db.n_dead_letters_of(node.id).await.unwrap(), 1);
    assert!(!db.is_in_outbox(bad.id).await.unwrap());
    assert_eq!(requeue(db, &bad).await.unwrap().event, bad);
    assert_eq!(requeue(db, &bad).await, None, "once");
    assert_eq!(db.n_dead_letters_of(node.id).await.unwrap(), 0);
    assert!(db.is_in_outbox(bad.id).await.unwrap());
    assert_eq!(claim(db, "w", 39, 9).await, [], "from now on");
    let again = claim(db, "w", 40, 9).await;
    assert_eq!(again.len(), 1, "before what came after it");
    let wanted = (bad.clone(), 1, claimed[0].seq);
    assert_eq!(
        (again[0].event.clone(), again[0].attempts, again[0].seq),
        wanted
    );
    assert!(again[0].is_requeued);
    // It fails again, what followed it is handled, and it comes back as the last.
    put_aside(db, &bad).await;
    let next = claim(db, "w", 40, 9).await;
    assert_eq!(events_of(&next), std::slice::from_ref(&good));
    assert!(finish(db, &good).await);
    assert!(requeue(db, &bad).await.is_some());
    let last = events_of(&claim(db, "w", 40, 9).await);
    assert_eq!(last, std::slice::from_ref(&bad));
    assert!(finish(db, &bad).await);
}

async fn put_aside(db: &Db, event: &HealthTransitionEvent) {
    let mut tx = db.begin().await.unwrap();
    let is_there = tx.to_dead_letter(event.id, "it breaks", Millis(30)).await;
    assert!(is_there.unwrap());
    tx.commit().await.unwrap();
}

async fn requeue(db: &Db, event: &HealthTransitionEvent) -> Option<DeadLetter> {
    let mut tx = db.begin().await.unwrap();
    let letter = tx.requeue_dead_letter(event.id, Millis(40)).await.unwrap();
    tx.commit().await.unwrap();
    letter
}
