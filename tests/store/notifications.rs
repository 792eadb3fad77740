//! Notifications: grouped until due, sent in order, repeated while trouble lasts.

use std::time::Duration;

use host_domain::ids::{IncidentId, NotificationId};
use host_domain::incident::{Incident, IncidentState};
use host_domain::notification::{DeliveryState, Notification, NotificationStatus};
use host_domain::time::Millis;
use host_store::Db;

use super::builders::{notification, stored_incident};
use crate::support::database::TestDb;

const FIRING: NotificationStatus = NotificationStatus::Firing;
const RESOLVED: NotificationStatus = NotificationStatus::Resolved;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    a_group_shares_a_message_until_it_is_claimed(db).await;
    what_nobody_heard_of_is_taken_back(db).await;
    the_end_never_overtakes_the_beginning(db).await;
    two_claims_never_take_the_same_message(db).await;
    a_rate_is_no_failure(db).await;
    trouble_that_lasts_is_repeated(db).await;
}

async fn ask(db: &Db, wanted: &Notification) -> NotificationId {
    let mut tx = db.begin().await.unwrap();
    let id = tx.upsert_pending_notification(wanted).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn claim(db: &Db, now: i64, limit: u32) -> Vec<Notification> {
    let mut tx = db.begin().await.unwrap();
    let claimed = tx
        .claim_notifications(Millis(now), Duration::from_millis(50), limit)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    claimed
}

async fn deliver(db: &Db, id: NotificationId, at: i64) -> bool {
    let mut tx = db.begin().await.unwrap();
    let finished = tx
        .finish_notification(id, DeliveryState::Delivered, "204", Millis(at))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    finished
}

async fn take_back(db: &Db, incident: IncidentId, status: NotificationStatus) -> u64 {
    let mut tx = db.begin().await.unwrap();
    let n_removed = tx.remove_from_pending(incident, status).await.unwrap();
    tx.commit().await.unwrap();
    n_removed
}

async fn a_group_shares_a_message_until_it_is_claimed(db: &Db) {
    let (a, b, c) = (
        stored_incident(db, "a").await.id,
        stored_incident(db, "b").await.id,
        stored_incident(db, "c").await.id,
    );
    let first = notification("group", FIRING, &[a]);
    assert_eq!(ask(db, &first).await, first.id);
    assert_eq!(
        ask(db, &notification("group", FIRING, &[b, a])).await,
        first.id
    );
    assert_eq!(claim(db, 99, 9).await, [], "not due yet");
    let claimed = claim(db, 100, 9).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!(
        (claimed[0].incident_ids.as_slice(), claimed[0].attempts),
        (&[a, b][..], 1)
    );
    // It is on its way: a third one needs a message of its own.
    let second = notification("group", FIRING, &[c]);
    assert_eq!(ask(db, &second).await, second.id);
    assert!(deliver(db, first.id, 110).await);
    assert!(!deliver(db, first.id, 110).await);
    let about = db.notifications_of(a, None, 9).await.unwrap();
    assert_eq!(
        (about.len(), about[0].state, about[0].finished_at),
        (1, DeliveryState::Delivered, Some(Millis(110)))
    );
    assert_eq!(
        (about[0].outcome.as_deref(), about[0].incident_ids.len()),
        (Some("204"), 2)
    );
    assert_eq!(db.notifications_of(a, Some(first.id), 9).await.unwrap(), []);
    assert_eq!(claim(db, 110, 9).await[0].id, second.id);
    deliver(db, second.id, 110).await;
}

async fn what_nobody_heard_of_is_taken_back(db: &Db) {
    let (a, b) = (
        stored_incident(db, "back-a").await.id,
        stored_incident(db, "back-b").await.id,
    );
    let shared = notification("back", FIRING, &[a, b]);
    ask(db, &shared).await;
    assert_eq!(take_back(db, a, RESOLVED).await, 0);
    assert_eq!(take_back(db, a, FIRING).await, 1);
    assert_eq!(take_back(db, a, FIRING).await, 0);
    assert_eq!(
        db.notifications_of(b, None, 9).await.unwrap()[0].incident_ids,
        [b]
    );
    assert_eq!(take_back(db, b, FIRING).await, 1);
    assert_eq!(claim(db, 100, 9).await, [], "none waits");
    ask(db, &notification("back", FIRING, &[a])).await;
    let claimed = claim(db, 100, 9).await;
    assert_eq!(take_back(db, a, FIRING).await, 0, "it is on its way");
    deliver(db, claimed[0].id, 110).await;
}

async fn the_end_never_overtakes_the_beginning(db: &Db) {
    let a = stored_incident(db, "order").await.id;
    let beginning = notification("order", FIRING, &[a]);
    let end = Notification {
        due_at: Millis(50),
        ..notification("order", RESOLVED, &[a])
    };
    ask(db, &beginning).await;
    ask(db, &end).await;
    assert_eq!(claim(db, 60, 9).await, []);
    assert_eq!(claim(db, 100, 9).await[0].id, beginning.id);
    let mut tx = db.begin().await.unwrap();
    assert!(
        tx.retry_notification(beginning.id, Millis(200), "refused")
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
    assert_eq!(claim(db, 199, 9).await, []);
    let again = claim(db, 200, 9).await;
    assert_eq!(
        (again[0].id, again[0].attempts, again[0].outcome.as_deref()),
        (beginning.id, 2, Some("refused"))
    );
    deliver(db, beginning.id, 210).await;
    let last = claim(db, 210, 9).await;
    assert_eq!((last[0].id, last[0].status), (end.id, RESOLVED));
    // Its sender dies: the lease ends and another one takes it.
    assert_eq!(claim(db, 259, 9).await, []);
    assert_eq!(claim(db, 260, 9).await[0].id, end.id);
    deliver(db, end.id, 270).await;
    let mut tx = db.begin().await.unwrap();
    assert!(
        !tx.retry_notification(end.id, Millis(1), "late")
            .await
            .unwrap()
    );
}

async fn two_claims_never_take_the_same_message(db: &Db) {
    let a = stored_incident(db, "claims").await.id;
    for group in 0..20 {
        ask(db, &notification(&format!("claims-{group}"), FIRING, &[a])).await;
    }
    let (one, two) = tokio::join!(claim(db, 100, 12), claim(db, 100, 12));
    let mut ids: Vec<_> = one.iter().chain(&two).map(|one| one.id).collect();
    let n_claimed = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), n_claimed, "claimed twice");
    for rest in claim(db, 100, 20).await {
        ids.push(rest.id);
    }
    assert_eq!(ids.len(), 20);
    for id in ids {
        deliver(db, id, 110).await;
    }
}

async fn a_rate_is_no_failure(db: &Db) {
    let a = stored_incident(db, "rate").await.id;
    ask(db, &notification("rate", FIRING, &[a])).await;
    let id = claim(db, 100, 9).await[0].id;
    let mut tx = db.begin().await.unwrap();
    assert!(tx.postpone_notification(id, Millis(300)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(claim(db, 299, 9).await, []);
    assert_eq!(claim(db, 300, 9).await[0].attempts, 1);
    deliver(db, id, 310).await;
    let mut tx = db.begin().await.unwrap();
    assert!(!tx.postpone_notification(id, Millis(1)).await.unwrap());
}

async fn trouble_that_lasts_is_repeated(db: &Db) {
    let (a, b) = (
        stored_incident(db, "lasts").await,
        stored_incident(db, "ends").await,
    );
    let of_route = |incidents: &[IncidentId]| Notification {
        route: "repeats".to_owned(),
        ..notification("lasting", FIRING, incidents)
    };
    let (one, two) = (of_route(&[a.id]), of_route(&[b.id]));
    for (message, at) in [(&one, 1_000), (&two, 2_000)] {
        ask(db, message).await;
        claim(db, at, 9).await;
        deliver(db, message.id, at).await;
    }
    assert_eq!(
        db.due_repeats("repeats", Millis(1_999), 9).await.unwrap(),
        []
    );
    let due = db.due_repeats("repeats", Millis(2_000), 9).await.unwrap();
    assert_eq!((due.len(), due[0].id), (1, two.id));
    assert_eq!(due[0].incident_ids, [a.id, b.id]);
    let resolve = async |incident: Incident| {
        let mut tx = db.begin().await.unwrap();
        let resolved = Incident {
            state: IncidentState::Resolved,
            resolved_at: Some(Millis(1)),
            ..incident
        };
        tx.update_incident(&resolved).await.unwrap().unwrap();
        tx.commit().await.unwrap();
    };
    resolve(b).await;
    assert_eq!(
        db.due_repeats("repeats", Millis(2_000), 9).await.unwrap()[0].incident_ids,
        [a.id]
    );
    resolve(a).await;
    assert_eq!(
        db.due_repeats("repeats", Millis(2_000), 9).await.unwrap(),
        []
    );
}
