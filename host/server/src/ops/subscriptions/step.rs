//! One step of a subscription: its row, the audit row, the live event and the removal of its node are one transaction.

use host_domain::ids::{NodeId, SubscriptionId};
use host_domain::node::Node;
use host_domain::subscription::{
    Subscription, SubscriptionConfig, SubscriptionEffect, SubscriptionEvent, SubscriptionState,
};
use host_domain::time::Millis;

use crate::ops::audit::audit;
use crate::ops::live::{LiveData, SubscriptionMoved};
use crate::ops::node_removal::{Removal, RemovalRequest, begin_removal};
use crate::ops::{OpError, Principal};
use host_store::Tx;

/// A subscription and its node, whose rows the transaction has locked.
pub(crate) struct LockedSubscription {
    pub(crate) subscription: Subscription,
    pub(crate) node: Option<Node>,
}

/// The result of a step.
pub(crate) struct MovedSubscription {
    pub(crate) subscription: Subscription,
    pub(crate) removal: Removal,
}

/// Locks a subscription and its node: the node first, as every removal does, so that two transactions never deadlock.
pub(crate) async fn lock(
    tx: &mut Tx,
    id: SubscriptionId,
) -> Result<Option<LockedSubscription>, OpError> {
    if let Some(node) = tx.node_of_subscription(id).await? {
        tx.hold_node(node.id).await?;
    }
    if !tx.hold_subscription(id).await? {
        return Ok(None);
    }
    let Some(subscription) = tx.subscription(id).await? else {
        return Ok(None);
    };
    let node = tx.node_of_subscription(id).await?;
    Ok(Some(LockedSubscription { subscription, node }))
}

/// Applies an event to a locked subscription and every deadline that has passed, and starts the removal of its node if it has
/// expired. The caller commits, and then informs the engine of the removal.
pub(crate) async fn move_subscription(
    tx: &mut Tx,
    who: &Principal,
    locked: LockedSubscription,
    event: SubscriptionEvent,
    config: &SubscriptionConfig,
    now: Millis,
) -> Result<MovedSubscription, OpError> {
    let LockedSubscription { subscription, node } = locked;
    let node_id = node.as_ref().map(|node| node.id);
    let mut moved = MovedSubscription {
        subscription,
        removal: Removal::Gone,
    };
    let (mut next, mut who) = (Some(event), who.clone());
    while let Some(event) = next {
        let (subscription, effect) =
            step(tx, &who, moved.subscription, event, node_id, now).await?;
        // The first step has taken the request's key.
        who = who.keyless();
        if effect == Some(SubscriptionEffect::Terminate)
            && let Some(node) = &node
        {
            moved.removal = begin_removal(tx, &who, node, RemovalRequest::BY_HOST, now).await?;
        }
        next = subscription.due(now, config);
        moved.subscription = subscription;
    }
    Ok(moved)
}

/// Applies one event to a locked subscription.
pub(super) async fn step(
    tx: &mut Tx,
    who: &Principal,
    subscription: Subscription,
    event: SubscriptionEvent,
    node: Option<NodeId>,
    now: Millis,
) -> Result<(Subscription, Option<SubscriptionEffect>), OpError> {
    let (after, effect) = subscription.after(event, now)?;
    let version = tx.update_subscription(&after).await?;
    let version = version.ok_or_else(|| OpError::stale("subscription", after.id))?;
    let after = Subscription { version, ..after };
    audit(tx, who, act(event, after.state), target(after.id), now).await?;
    log(tx, &after, event.as_str(), node, now);
    Ok((after, effect))
}

/// Records a subscription that was just made.
pub(in crate::ops) async fn record_new(
    tx: &mut Tx,
    who: &Principal,
    made: &Subscription,
    node: Option<NodeId>,
    now: Millis,
) -> Result<(), OpError> {
    audit(tx, who, "create_subscription", target(made.id), now).await?;
    log(tx, made, "created", node, now);
    Ok(())
}

/// Ends the subscription without a term of a node that is gone, in the transaction in which the node goes.
pub(in crate::ops) async fn end_with_node(
    tx: &mut Tx,
    node: &Node,
    now: Millis,
) -> Result<(), OpError> {
    let id = node.subscription_id;
    if !tx.hold_subscription(id).await? {
        return Ok(());
    }
    let Some(mut subscription) = tx.subscription(id).await? else {
        return Ok(());
    };
    for event in subscription.ends_with_node() {
        let moved = step(
            tx,
            &Principal::host(),
            subscription,
            *event,
            Some(node.id),
            now,
        )
        .await?;
        subscription = moved.0;
    }
    Ok(())
}

fn target(id: SubscriptionId) -> String {
    format!("subscription/{id}")
}

/// The action of an event in the audit log.
fn act(event: SubscriptionEvent, to: SubscriptionState) -> &'static str {
    match event {
        SubscriptionEvent::PaymentCompleted => "pay_subscription",
        SubscriptionEvent::Canceled => "cancel_subscription",
        SubscriptionEvent::Suspended => "suspend_subscription",
        SubscriptionEvent::Resumed => "resume_subscription",
        SubscriptionEvent::TermEnded if to == SubscriptionState::PastDue => {
            "mark_subscription_past_due"
        }
        SubscriptionEvent::PaymentMissed
        | SubscriptionEvent::TermEnded
        | SubscriptionEvent::GraceEnded
        | SubscriptionEvent::Ended => "expire_subscription",
    }
}

fn log(tx: &mut Tx, subscription: &Subscription, cause: &str, node: Option<NodeId>, now: Millis) {
    let moved = SubscriptionMoved {
        id: subscription.id,
        cause: cause.to_owned(),
        state: subscription.state,
        expires_at: subscription.expires_at,
    };
    let chain = Some(subscription.chain_profile_id.clone());
    tx.append_event_log(LiveData::Subscription(moved).entry(node, chain, now));
}
