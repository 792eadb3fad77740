//! The outbox of the event bus: everything waits until it was taken, and is kept for a while afterwards.

use std::time::Duration;

use host_domain::time::Millis;
use host_store::{BusEvent, Db, OutboxLag};

use super::builders::{event, node};
use crate::support::database::TestDb;

const FIRST: (Millis, i64) = (Millis(i64::MIN), i64::MIN);

fn versions(rows: &[BusEvent]) -> Vec<i64> {
    rows.iter().map(|row| row.event.state_version).collect()
}

async fn take(db: &Db, seqs: &[i64], at: i64) -> u64 {
    let mut tx = db.begin().await.unwrap();
    let n = tx.mark_bus_events_sent(seqs, Millis(at)).await.unwrap();
    tx.commit().await.unwrap();
    n
}

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    let node = node("a");
    let mut tx = db.begin().await.unwrap();
    let first = event(&node, 1);
    for event in [&first, &event(&node, 2), &event(&node, 3), &first] {
        tx.insert_bus_event(event).await.unwrap();
    }
    tx.commit().await.unwrap();
    let lag = OutboxLag {
        n_waiting: 3,
        oldest: Duration::from_millis(15),
    };
    assert_eq!(db.bus_lag(Millis(25)).await.unwrap(), lag);

    let waiting = db.waiting_bus_events(10).await.unwrap();
    assert_eq!(versions(&waiting), [1, 2, 3], "a repeat is one row");
    assert_eq!(versions(&db.waiting_bus_events(2).await.unwrap()), [1, 2]);
    let seqs: Vec<i64> = waiting.iter().map(|row| row.seq).collect();
    // What was written first may be taken last.
    assert_eq!(take(db, &seqs[1..], 50).await, 2);
    assert_eq!(take(db, &seqs[1..], 60).await, 0, "taken once");
    assert_eq!(take(db, &[], 60).await, 0);
    assert_eq!(versions(&db.waiting_bus_events(10).await.unwrap()), [1]);
    assert_eq!(take(db, &seqs, 60).await, 1);
    let sent = db.sent_bus_events(FIRST, 10).await.unwrap();
    assert_eq!(versions(&sent), [2, 3, 1], "in the order of taking");
    let after = (Millis(50), seqs[1]);
    assert_eq!(versions(&db.sent_bus_events(after, 10).await.unwrap()), [3, 1]);
    assert_eq!(db.bus_lag(Millis(99)).await.unwrap(), OutboxLag::default());

    let mut tx = db.begin().await.unwrap();
    tx.insert_bus_event(&event(&node, 4)).await.unwrap();
    assert_eq!(tx.prune_bus_events(Millis(60), 1).await.unwrap(), 1);
    assert_eq!(tx.prune_bus_events(Millis(60), 10).await.unwrap(), 1);
    assert_eq!(tx.prune_bus_events(Millis(61), 10).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(versions(&db.waiting_bus_events(10).await.unwrap()), [4]);
}
