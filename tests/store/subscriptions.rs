//! Subscriptions: changed by one writer at a time, paid once by each payment, and found when the clock asks for something.

use std::time::Duration;

use host_domain::ids::SubscriptionId;
use host_domain::node::NodeState;
use host_domain::subscription::{
    Subscription, SubscriptionConfig, SubscriptionEvent, SubscriptionState as S,
};
use host_domain::time::Millis;
use host_store::{Db, StoreError, SubscriptionFilter, SubscriptionPayment};
use uuid::Uuid;

use super::builders::{node, stored_node, stored_node_in, subscription};
use crate::support::database::TestDb;

pub(crate) async fn contract(test: &TestDb) {
    let db = &test.db;
    one_of_two_writers_wins(db).await;
    of_equal_ones_that_wait_there_is_one(db).await;
    a_payment_is_recorded_once(db).await;
    lists_filter_and_go_on(db).await;
    those_of_which_the_clock_may_ask_something(db).await;
    nodes_of_subscriptions_are_found(db).await;
    a_subscription_is_held_until_the_transaction_ends(db).await;
}

async fn stored(db: &Db, one: &Subscription) {
    let mut tx = db.begin().await.unwrap();
    tx.insert_subscription(one).await.unwrap();
    tx.commit().await.unwrap();
}

async fn update(db: &Db, to: &Subscription) -> Option<i64> {
    let mut tx = db.begin().await.unwrap();
    let version = tx.update_subscription(to).await.unwrap();
    tx.commit().await.unwrap();
    version
}

async fn one_of_two_writers_wins(db: &Db) {
    let made = subscription("writers");
    stored(db, &made).await;
    assert_eq!(db.subscription(made.id).await.unwrap(), Some(made.clone()));
    let (mut changed, _) = made
        .after(SubscriptionEvent::PaymentCompleted, Millis(5))
        .unwrap();
    changed.payment_id = Some("p-0".to_owned());
    let (one, two) = tokio::join!(update(db, &changed), update(db, &changed));
    assert_eq!([one, two].into_iter().flatten().collect::<Vec<_>>(), [2]);
    changed.version = 2;
    assert_eq!(db.subscription(made.id).await.unwrap(), Some(changed));
    assert_eq!(update(db, &made).await, None);
    let none = SubscriptionId(Uuid::nil());
    assert_eq!(db.subscription(none).await.unwrap(), None);
    // Without a term every optional column is empty.
    let open_ended = Subscription {
        duration: None,
        state: S::Active,
        ..subscription("writers")
    };
    stored(db, &open_ended).await;
    assert_eq!(db.subscription(open_ended.id).await.unwrap(), Some(open_ended));
}

async fn of_equal_ones_that_wait_there_is_one(db: &Db) {
    let first = subscription("equal");
    let month = first.duration.unwrap();
    let find = async |owner: &str, chain: &str, node_type: &str, duration: Duration| {
        let found = db.equal_pending_subscription(owner, chain, node_type, duration);
        found.await.unwrap().map(|found| found.id)
    };
    let same = async || find("equal", "anvil-devnet", "full", month).await;
    assert_eq!(same().await, None);
    stored(db, &first).await;
    assert_eq!(same().await, Some(first.id));
    let mut tx = db.begin().await.unwrap();
    let refused = tx.insert_subscription(&subscription("equal")).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    drop(tx);
    for (owner, chain, node_type, duration) in [
        ("other", "anvil-devnet", "full", month),
        ("equal", "other", "full", month),
        ("equal", "anvil-devnet", "archive", month),
        ("equal", "anvil-devnet", "full", month * 2),
    ] {
        assert_eq!(find(owner, chain, node_type, duration).await, None);
    }
    let (paid, _) = first.after(SubscriptionEvent::PaymentCompleted, Millis(5)).unwrap();
    update(db, &paid).await;
    assert_eq!(same().await, None);
    stored(db, &subscription("equal")).await;
}

async fn a_payment_is_recorded_once(db: &Db) {
    let one = subscription("payer");
    stored(db, &one).await;
    let payment = SubscriptionPayment {
        payment_id: "p-1".to_owned(),
        subscription_id: one.id,
        paid_until: Millis(9),
        recorded_at: Millis(2),
    };
    assert_eq!(db.subscription_payment("p-1").await.unwrap(), None);
    let mut tx = db.begin().await.unwrap();
    tx.insert_subscription_payment(&payment).await.unwrap();
    tx.commit().await.unwrap();
    let found = db.subscription_payment("p-1").await.unwrap();
    assert_eq!(found.as_ref(), Some(&payment));
    let mut tx = db.begin().await.unwrap();
    let again = tx.insert_subscription_payment(&payment).await;
    assert!(matches!(again, Err(StoreError::Conflict { .. })), "{again:?}");
    drop(tx);
    let of_none = SubscriptionPayment {
        payment_id: "p-2".to_owned(),
        subscription_id: SubscriptionId(Uuid::nil()),
        ..payment
    };
    let mut tx = db.begin().await.unwrap();
    let refused = tx.insert_subscription_payment(&of_none).await;
    assert!(matches!(refused, Err(StoreError::Missing)), "{refused:?}");
}

async fn lists_filter_and_go_on(db: &Db) {
    let mut made = Vec::new();
    for days in 1..4 {
        let one = Subscription {
            duration: Some(Duration::from_hours(24 * days)),
            ..subscription("lister")
        };
        stored(db, &one).await;
        made.push(one);
    }
    let [first, second, third] = made.try_into().unwrap();
    let own = SubscriptionFilter {
        owner: Some("lister".to_owned()),
        ..SubscriptionFilter::default()
    };
    let newest = db.list_subscriptions(&own, None, 2).await.unwrap();
    assert_eq!(newest, [third, second.clone()]);
    let rest = db.list_subscriptions(&own, Some(second.id), 2).await.unwrap();
    assert_eq!(rest, [first]);
    for empty in [
        SubscriptionFilter {
            chain: Some("other".to_owned()),
            ..own.clone()
        },
        SubscriptionFilter {
            state: Some(S::Active),
            ..own
        },
    ] {
        assert_eq!(db.list_subscriptions(&empty, None, 9).await.unwrap(), []);
    }
}

async fn those_of_which_the_clock_may_ask_something(db: &Db) {
    const DAY: i64 = 86_400_000;
    let config = SubscriptionConfig::default();
    // Those of the checks before are of the beginning of time too.
    let others = db.due_subscriptions(Millis(DAY * 40), &config, None, 99).await.unwrap();
    let after = others.last().copied();
    let mut expected = Vec::new();
    for (state, expires_at, is_due_at) in [
        (S::PendingPayment, None, Some(DAY)),
        (S::Active, Some(2 * DAY), Some(2 * DAY)),
        (S::Active, None, None),
        (S::PastDue, Some(0), Some(3 * DAY)),
        (S::Canceled, Some(4 * DAY), Some(4 * DAY)),
        (S::Canceled, None, Some(0)),
        (S::Suspended, Some(0), None),
        (S::Expired, Some(0), None),
    ] {
        let one = Subscription {
            state,
            expires_at: expires_at.map(Millis),
            entered_at: Millis(0),
            ..subscription("clock")
        };
        stored(db, &one).await;
        expected.push((one, is_due_at));
    }
    for at in [0, DAY - 1, DAY, 2 * DAY - 1, 2 * DAY, 3 * DAY - 1, 3 * DAY, 4 * DAY - 1, 4 * DAY] {
        let found = db.due_subscriptions(Millis(at), &config, after, 99).await.unwrap();
        let due = expected.iter().filter(|(_, from)| from.is_some_and(|from| at >= from));
        let due: Vec<_> = due.map(|(one, _)| one.id).collect();
        assert_eq!(found, due, "at {at}");
        let asked = expected.iter().filter(|(one, _)| one.due(Millis(at), &config).is_some());
        let asked: Vec<_> = asked.map(|(one, _)| one.id).collect();
        assert_eq!(found, asked, "the rule says the same at {at}");
    }
    let page = db.due_subscriptions(Millis(4 * DAY), &config, after, 1).await.unwrap();
    assert_eq!(page.len(), 1);
    let next = db.due_subscriptions(Millis(4 * DAY), &config, page.last().copied(), 99);
    assert_eq!(next.await.unwrap().len(), 4);
}

async fn nodes_of_subscriptions_are_found(db: &Db) {
    let live = stored_node(db, "paid-live").await;
    let gone = stored_node_in(db, "paid-gone", NodeState::Terminated).await;
    let found = db.node_of_subscription(live.subscription_id).await.unwrap();
    assert_eq!(found.map(|node| node.id), Some(live.id));
    let none = SubscriptionId(Uuid::nil());
    assert_eq!(db.node_of_subscription(none).await.unwrap(), None);
    let asked = [live.subscription_id, none, gone.subscription_id];
    let found = db.nodes_of_subscriptions(&asked).await.unwrap();
    let pairs = [(live.subscription_id, live.id), (gone.subscription_id, gone.id)];
    assert_eq!(found, pairs.into());
    // A subscription never has a second node.
    let second = host_domain::node::Node {
        subscription_id: gone.subscription_id,
        ..node("paid-twice")
    };
    let mut tx = db.begin().await.unwrap();
    let refused = tx.insert_node(&second).await;
    assert!(matches!(refused, Err(StoreError::Conflict { .. })), "{refused:?}");
    drop(tx);
    for of in [&live, &gone] {
        let expired = Subscription {
            id: of.subscription_id,
            state: S::Expired,
            ..subscription("expired")
        };
        stored(db, &expired).await;
    }
    let left = db.expired_subscriptions_with_a_node(None, 9).await.unwrap();
    assert_eq!(left, [live.subscription_id]);
    let behind = db.expired_subscriptions_with_a_node(left.first().copied(), 9);
    assert_eq!(behind.await.unwrap(), []);
}

async fn a_subscription_is_held_until_the_transaction_ends(db: &Db) {
    let one = subscription("held");
    stored(db, &one).await;
    let mut tx = db.begin().await.unwrap();
    assert!(tx.hold_subscription(one.id).await.unwrap());
    assert!(!tx.hold_subscription(SubscriptionId(Uuid::nil())).await.unwrap());
    let other = async {
        let mut tx = db.begin().await?;
        tx.hold_subscription(one.id).await?;
        tx.commit().await
    };
    tokio::pin!(other);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut other).await;
    assert!(early.is_err(), "it waits");
    tx.commit().await.unwrap();
    other.await.unwrap();
    assert_eq!(db.subscription(one.id).await.unwrap(), Some(one.clone()), "as it was");
}
