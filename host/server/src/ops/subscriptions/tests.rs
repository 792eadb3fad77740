//! Payments that come again, at once and late; and subscriptions that end with their nodes.

use host_domain::node::{NodeEvent, NodeState};
use host_domain::operation::OperationKind;
use host_domain::subscription::SubscriptionState as S;

use super::*;
use crate::ops::{Change, change_node};
use crate::test_bed::Bed;
use crate::test_bed::subscriptions::{DAY_S, TERM, admin};
use host_store::{NodeFilter, OperationFilter};

/// Nodes, and operations that make them.
async fn made(bed: &Bed) -> (usize, usize) {
    let (all_nodes, all) = (NodeFilter::default(), OperationFilter::default());
    let nodes = bed.records.db.list_nodes(&all_nodes, None, 100).await;
    let operations = bed.records.db.list_operations(&all, None, 100).await;
    let operations = operations.unwrap().into_iter();
    let making = operations.filter(|one| one.kind == OperationKind::ProvisionNode);
    (nodes.unwrap().len(), making.count())
}

#[tokio::test]
async fn a_payment_that_comes_twice_makes_one_node() {
    let (bed, engine) = Bed::with_engine().await;
    let id = bed.unpaid().await.id;
    let (one, two) = tokio::join!(bed.pay(id, "p-1"), bed.pay(id, "p-1"));
    let making = one.making.clone().unwrap();
    assert_eq!(two.making.map(|making| making.id), Some(making.id));
    assert_eq!(made(&bed).await, (1, 1));
    let paid = bed.read(id).await;
    assert_eq!(
        (paid.state, paid.payment_id.as_deref()),
        (S::Active, Some("p-1"))
    );
    assert_eq!(paid.expires_at, Some(paid.entered_at.plus(TERM)));
    let node = bed.records.db.node(making.node_id).await.unwrap().unwrap();
    assert_eq!(node.subscription_id, id);
    assert_eq!(node.placement.instance_type, "x");
    bed.wait(DAY_S);
    bed.pay(id, "p-1").await;
    assert_eq!(bed.read(id).await, paid, "it counts once");
    let asked = engine.asked();
    let start = format!("start provision-{}", node.id);
    assert!(asked.iter().all(|one| *one == start), "{asked:?}");
}

#[tokio::test]
async fn a_second_payment_prolongs_and_the_first_one_counts_no_more() {
    let bed = Bed::new().await;
    let (id, _) = bed.paid().await;
    let first = bed.read(id).await;
    bed.wait(DAY_S);
    let renewed = bed.pay(id, "p-2").await.paid.subscription;
    assert_eq!(
        renewed.expires_at,
        first.expires_at.map(|end| end.plus(TERM))
    );
    for again in [id.to_string().as_str(), "p-2"] {
        bed.pay(id, again).await;
        assert_eq!(bed.read(id).await, renewed, "{again}");
    }
    assert_eq!(made(&bed).await, (1, 1));
    let other = bed.unpaid().await.id;
    let stolen = bed
        .ops
        .subscriptions
        .complete_payment(&admin(), other, "p-2")
        .await;
    let refused = stolen.unwrap_err().to_string();
    assert!(refused.contains(&id.to_string()), "{refused}");
    assert_eq!(bed.read(other).await.state, S::PendingPayment);
}

#[tokio::test]
async fn a_payment_is_refused_where_it_would_buy_nothing() {
    let bed = Bed::new().await;
    let (id, node) = bed.paid().await;
    for bad in ["", "with blank", "ü", &"x".repeat(129)] {
        let refused = bed
            .ops
            .subscriptions
            .complete_payment(&admin(), id, bad)
            .await;
        assert!(matches!(refused, Err(OpError::Invalid { .. })), "{bad}");
    }
    let refused = async |payment: &str| {
        let paid = bed
            .ops
            .subscriptions
            .complete_payment(&admin(), id, payment)
            .await;
        match paid {
            Err(OpError::Conflict(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    bed.ops
        .subscriptions
        .suspend(&admin(), id, None)
        .await
        .unwrap();
    assert!(refused("p-2").await.contains("resume it"));
    bed.ops
        .subscriptions
        .resume(&admin(), id, None)
        .await
        .unwrap();
    let mut tx = bed.records.db.begin().await.unwrap();
    for event in [NodeEvent::TerminateRequested, NodeEvent::TerminateFinished] {
        let node = tx.node(node.id).await.unwrap().unwrap();
        let now = bed.records.now();
        change_node(&mut tx, &node, Change::event(event), now)
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(bed.read(id).await.state, S::Active, "it was paid for");
    assert!(refused("p-2").await.contains("`terminated`"));
    bed.ops
        .subscriptions
        .cancel(&admin(), id, None)
        .await
        .unwrap();
    assert!(refused("p-2").await.contains("make a new one"));
}

#[tokio::test]
async fn a_subscription_without_a_term_ends_with_its_node() {
    for (ends, last) in [
        (&[NodeEvent::GaveUp][..], NodeState::Failed),
        (
            &[NodeEvent::TerminateRequested, NodeEvent::TerminateFinished],
            NodeState::Terminated,
        ),
    ] {
        let bed = Bed::new().await;
        let node = bed.node(NodeState::Syncing).await;
        let open_ended = Subscription {
            id: node.subscription_id,
            duration: None,
            state: S::Active,
            ..bed.unpaid().await
        };
        let mut tx = bed.records.db.begin().await.unwrap();
        tx.insert_subscription(&open_ended).await.unwrap();
        tx.commit().await.unwrap();
        let refused = bed
            .ops
            .subscriptions
            .complete_payment(&admin(), open_ended.id, "p")
            .await;
        assert!(matches!(refused, Err(OpError::Conflict(_))), "{refused:?}");
        let mut node = node;
        for event in ends {
            assert_eq!(bed.read(open_ended.id).await.state, S::Active);
            let (mut tx, now) = (bed.records.db.begin().await.unwrap(), bed.records.now());
            let moved = change_node(&mut tx, &node, Change::event(*event), now).await;
            node = moved.unwrap();
            tx.commit().await.unwrap();
        }
        assert_eq!(node.condition.state, last);
        assert_eq!(bed.read(open_ended.id).await.state, S::Expired);
        let acts: Vec<_> = bed.acts().await.into_iter().map(|(_, act)| act).collect();
        assert_eq!(acts, ["cancel_subscription", "expire_subscription"]);
    }
}

#[tokio::test]
async fn one_that_was_never_paid_or_has_no_term_ends_at_once_when_it_is_cancelled() {
    let (bed, engine) = Bed::with_engine().await;
    let unpaid = bed.unpaid().await.id;
    let canceled = bed.ops.subscriptions.cancel(&admin(), unpaid, None).await;
    assert_eq!(canceled.unwrap().subscription.state, S::Expired);
    let node = bed.node(NodeState::Syncing).await;
    let open_ended = Subscription {
        id: node.subscription_id,
        duration: None,
        state: S::Active,
        ..bed.unpaid().await
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_subscription(&open_ended).await.unwrap();
    tx.commit().await.unwrap();
    let ended = bed
        .ops
        .subscriptions
        .cancel(&admin(), open_ended.id, None)
        .await;
    assert_eq!(ended.unwrap().subscription.state, S::Expired);
    assert_eq!(engine.asked(), [format!("start terminate-{}", node.id)]);
}

#[tokio::test]
async fn nobody_but_an_admin_sees_or_moves_what_is_somebody_elses() {
    let bed = Bed::new().await;
    let own = bed.unpaid().await;
    let who = |name: &str| Principal {
        name: name.to_owned(),
        scopes: [Scope::SubscriptionsRead, Scope::SubscriptionsWrite].into(),
        request: None,
        request_id: None,
    };
    let (owner, other) = (who(&own.owner), who("other"));
    let list = async |who: &Principal, owner: Option<&str>| {
        let filter = SubscriptionFilter {
            owner: owner.map(str::to_owned),
            ..SubscriptionFilter::default()
        };
        let page = PageRequest {
            limit: 10,
            cursor: None,
        };
        let listed = bed.ops.subscriptions.list(who, &filter, &page).await;
        listed.unwrap().items.len()
    };
    for (who, sees) in [(&owner, true), (&other, false), (&admin(), true)] {
        assert_eq!(bed.ops.subscriptions.get(who, own.id).await.is_ok(), sees);
        assert_eq!(list(who, None).await == 1, sees);
        assert_eq!(list(who, Some(&own.owner)).await == 1, sees);
    }
    let refused = bed.ops.subscriptions.cancel(&other, own.id, None).await;
    assert!(
        matches!(refused, Err(OpError::NotFound { .. })),
        "{refused:?}"
    );
    assert_eq!(bed.read(own.id).await.state, S::PendingPayment);
    let old = bed.ops.subscriptions.cancel(&owner, own.id, Some(9)).await;
    assert!(matches!(old, Err(OpError::Stale { .. })), "{old:?}");
    bed.ops
        .subscriptions
        .cancel(&owner, own.id, Some(1))
        .await
        .unwrap();
}

#[test]
fn a_term_is_one_that_has_a_price_or_lies_between_a_day_and_ten_years() {
    let day = |n: u64| Duration::from_hours(24 * n);
    let check = |term, priced: &[&str]| check_term(term, priced.iter().copied()).is_ok();
    assert!(check(day(1), &[]) && check(day(3_650), &[]));
    assert!(!check(day(1) / 2, &[]) && !check(day(3_651), &[]));
    assert!(check(day(30), &["30d", "365d"]) && check(day(365), &["30d", "365d"]));
    assert!(!check(day(31), &["30d", "365d"]));
}
