//! Rounds on a real database, with a clock that is moved by hand.

use host_domain::node::{Node, NodeState};
use host_domain::operation::{Operation, OperationKind, OperationState};
use host_domain::subscription::{Subscription, SubscriptionState as S};
use host_domain::time::{Clock as _, Millis};

use super::*;
use crate::ops::OperationFilter;
use crate::test_bed::Bed;
use crate::test_bed::subscriptions::{DAY_S, admin};
use host_store::Fence;

async fn state(bed: &Bed, id: SubscriptionId) -> S {
    bed.read(id).await.state
}

async fn run(bed: &Bed, records: &Records) -> Result<(), OpError> {
    let config = &bed.services.config.subscriptions;
    round(records, &bed.services.engine, config).await
}

/// Whether a round changed anything.
async fn has_moved(bed: &Bed, records: &Records) -> bool {
    bed.commits(Box::pin(run(bed, records))).await
}

/// A node's operations of a kind.
async fn operations(bed: &Bed, node: &Node, kind: OperationKind) -> Vec<Operation> {
    let filter = OperationFilter {
        node: Some(node.id),
        state: None,
    };
    let all = bed.records.db.list_operations(&filter, None, 100).await;
    let all = all.unwrap().into_iter();
    all.filter(|one| one.kind == kind).collect()
}

/// Writes a subscription behind everybody's back.
async fn put(bed: &Bed, to: &Subscription) {
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.update_subscription(to).await.unwrap().unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_subscription_that_nobody_pays_expires_after_a_day() {
    let bed = Bed::new().await;
    let id = bed.unpaid().await.id;
    bed.wait(DAY_S - 1);
    assert!(!has_moved(&bed, &bed.records).await, "there is time");
    bed.wait(1);
    assert!(has_moved(&bed, &bed.records).await);
    assert_eq!(state(&bed, id).await, S::Expired);
    assert!(!has_moved(&bed, &bed.records).await, "once only");
    let late = bed
        .ops
        .subscriptions
        .complete_payment(&admin(), id, "late")
        .await;
    assert!(matches!(late, Err(OpError::Conflict(_))), "{late:?}");
    let expected = ("host".to_owned(), "expire_subscription".to_owned());
    assert_eq!(bed.acts().await, [expected]);
}

#[tokio::test]
async fn after_the_term_and_the_grace_the_node_is_terminated_once() {
    let (bed, engine) = Bed::with_engine().await;
    let (id, node) = bed.paid().await;
    engine.asked();
    bed.wait(30 * DAY_S - 1);
    assert!(!has_moved(&bed, &bed.records).await, "it is paid");
    bed.wait(1);
    assert!(has_moved(&bed, &bed.records).await);
    assert_eq!(state(&bed, id).await, S::PastDue);
    bed.wait(3 * DAY_S - 1);
    assert!(!has_moved(&bed, &bed.records).await, "it has grace");
    assert_eq!(engine.asked(), Vec::<String>::new());
    bed.wait(1);
    assert!(has_moved(&bed, &bed.records).await);
    assert_eq!(state(&bed, id).await, S::Expired);
    assert_eq!(engine.asked(), [format!("start terminate-{}", node.id)]);
    // Also while the termination is at work.
    for _ in 0..3 {
        assert!(!has_moved(&bed, &bed.records).await, "once only");
    }
    assert_eq!(engine.asked(), Vec::<String>::new());
    let removals = operations(&bed, &node, OperationKind::TerminateNode).await;
    assert_eq!(removals.len(), 1);
}

#[tokio::test]
async fn a_renewal_in_its_grace_keeps_the_node() {
    let bed = Bed::new().await;
    let (id, node) = bed.paid().await;
    bed.wait(30 * DAY_S);
    run(&bed, &bed.records).await.unwrap();
    let end = bed.read(id).await.expires_at.unwrap();
    bed.wait(3 * DAY_S);
    // The payment comes a moment before the round that would end it.
    let paid = bed.pay(id, "renewal").await.paid.subscription;
    assert_eq!(paid.state, S::Active);
    assert_eq!(paid.expires_at, Some(Millis(end.0 + 30 * DAY_S * 1_000)));
    assert!(!has_moved(&bed, &bed.records).await);
    let removals = operations(&bed, &node, OperationKind::TerminateNode).await;
    assert_eq!(removals, []);
    let made = operations(&bed, &node, OperationKind::ProvisionNode).await;
    assert_eq!(made.len(), 1, "a renewal makes no second node");
}

#[tokio::test]
async fn a_cancelled_subscription_runs_to_the_end_of_its_term_and_has_no_grace() {
    let (bed, engine) = Bed::with_engine().await;
    let (id, node) = bed.paid().await;
    let canceled = bed.ops.subscriptions.cancel(&admin(), id, None).await;
    assert_eq!(canceled.unwrap().subscription.state, S::Canceled);
    engine.asked();
    bed.wait(30 * DAY_S - 1);
    assert!(!has_moved(&bed, &bed.records).await);
    bed.wait(1);
    run(&bed, &bed.records).await.unwrap();
    assert_eq!(state(&bed, id).await, S::Expired);
    assert_eq!(engine.asked(), [format!("start terminate-{}", node.id)]);
}

#[tokio::test]
async fn a_suspended_subscription_is_left_alone_and_ends_by_an_admin() {
    let bed = Bed::new().await;
    let (id, node) = bed.paid().await;
    let held = bed.ops.subscriptions.suspend(&admin(), id, None).await;
    assert_eq!(held.unwrap().subscription.state, S::Suspended);
    bed.wait(400 * DAY_S);
    assert!(!has_moved(&bed, &bed.records).await);
    let resumed = bed.ops.subscriptions.resume(&admin(), id, None).await;
    assert_eq!(
        resumed.unwrap().subscription.state,
        S::PastDue,
        "its term is over"
    );
    let (other, _) = bed.paid().await;
    let ended = bed.ops.subscriptions.end(&admin(), other, None).await;
    let refused = ended.unwrap_err().to_string();
    assert!(refused.contains("`active` can't take `ended`"), "{refused}");
    bed.ops
        .subscriptions
        .suspend(&admin(), other, None)
        .await
        .unwrap();
    let ended = bed.ops.subscriptions.end(&admin(), other, None).await;
    assert_eq!(ended.unwrap().subscription.state, S::Expired);
    let removals = operations(&bed, &node, OperationKind::TerminateNode).await;
    assert_eq!(removals, [], "only the other one's");
}

#[tokio::test]
async fn a_row_that_can_not_be_read_keeps_nobody_waiting() {
    let bed = Bed::new().await;
    let (first, bad, last) = (bed.unpaid().await, bed.unpaid().await, bed.unpaid().await);
    bed.spoil_subscription(bad.id).await;
    bed.wait(DAY_S);
    for _ in 0..2 {
        run(&bed, &bed.records).await.unwrap();
    }
    assert_eq!(state(&bed, first.id).await, S::Expired);
    assert_eq!(state(&bed, last.id).await, S::Expired);
}

#[tokio::test]
async fn a_node_that_outlived_its_subscription_is_found_and_removed() {
    let (bed, engine) = Bed::with_engine().await;
    let (id, node) = bed.paid().await;
    // As if something had ended the subscription and died before it thought of the node.
    let expired = Subscription {
        state: S::Expired,
        ..bed.read(id).await
    };
    put(&bed, &expired).await;
    engine.asked();
    assert!(has_moved(&bed, &bed.records).await);
    assert_eq!(engine.asked(), [format!("start terminate-{}", node.id)]);
    assert!(!has_moved(&bed, &bed.records).await, "once only");
    assert_eq!(engine.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn a_node_that_is_being_moved_is_removed_when_that_has_ended() {
    let bed = Bed::new().await;
    let (id, node) = bed.paid().await;
    let made = operations(&bed, &node, OperationKind::ProvisionNode).await;
    let moving = Operation {
        id: host_domain::ids::OperationId(uuid::Uuid::now_v7()),
        kind: OperationKind::MigrateNode,
        state: OperationState::Running,
        version: 1,
        ..made[0].clone()
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.insert_operation(&moving).await.unwrap();
    tx.set_operation(node.id, Some(moving.id)).await.unwrap();
    tx.commit().await.unwrap();
    bed.ops
        .subscriptions
        .cancel(&admin(), id, None)
        .await
        .unwrap();
    bed.wait(30 * DAY_S);
    run(&bed, &bed.records).await.unwrap();
    assert_eq!(state(&bed, id).await, S::Expired);
    assert!(!has_moved(&bed, &bed.records).await, "it is waited for");
    let over = Operation {
        state: OperationState::Succeeded,
        ..moving
    };
    let mut tx = bed.records.db.begin().await.unwrap();
    tx.update_operation(&over).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert!(has_moved(&bed, &bed.records).await);
    let removals = operations(&bed, &node, OperationKind::TerminateNode).await;
    assert_eq!(removals.len(), 1);
}

#[tokio::test]
async fn a_node_that_is_still_being_made_is_undone_instead() {
    let bed = Bed::new().await;
    let id = bed.unpaid().await.id;
    let making = bed.pay(id, "p-1").await.making.unwrap();
    bed.ops
        .subscriptions
        .cancel(&admin(), id, None)
        .await
        .unwrap();
    bed.wait(30 * DAY_S);
    run(&bed, &bed.records).await.unwrap();
    let undoing = bed.records.db.operation(making.id).await.unwrap().unwrap();
    assert_eq!(undoing.state, OperationState::Undoing);
    assert!(!has_moved(&bed, &bed.records).await, "once only");
    let node = bed.records.db.node(making.node_id).await.unwrap().unwrap();
    assert_eq!(node.condition.state, NodeState::Provisioning);
}

#[tokio::test]
async fn a_leader_that_was_frozen_moves_nothing() {
    let bed = Bed::new().await;
    let (id, _) = bed.paid().await;
    let take = async |holder: &str| {
        let mut tx = bed.records.db.begin().await.unwrap();
        let epoch = tx.take_leader_epoch("fleet", holder, bed.clock.now()).await;
        tx.commit().await.unwrap();
        let name = "fleet".to_owned();
        bed.records.fenced(Fence {
            name,
            epoch: epoch.unwrap(),
        })
    };
    let frozen = take("frozen").await;
    let next = take("next").await;
    bed.wait(30 * DAY_S);
    assert!(!has_moved(&bed, &frozen).await);
    assert_eq!(state(&bed, id).await, S::Active);
    assert!(has_moved(&bed, &next).await);
    assert_eq!(state(&bed, id).await, S::PastDue);
}
