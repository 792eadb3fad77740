//! The deadlines of subscriptions: an unpaid one expires, one whose term is over is past due, one whose grace is over or that was
//! cancelled expires and its node is terminated.
//!
//! No workflow sleeps for a term: each round asks the rows what is due by now. State and removal are one transaction; where a
//! node could not be removed then, because it was being moved, later rounds find it and go on.

use std::time::Duration;

use host_domain::ids::SubscriptionId;
use host_domain::subscription::{SubscriptionConfig, SubscriptionState};

use super::loops::{Loop, Pace};
use crate::ops::{
    OpError, Principal, Records, RemovalRequest, WorkflowEngine, begin_removal, lock_subscription,
    move_subscription,
};
use crate::services::Services;
use host_store::retried;

/// Subscriptions that are read at once.
const PAGE: u32 = 500;

/// Applies the deadlines of subscriptions, on the leader.
pub(super) fn subscription_cleaner(services: &Services) -> Loop {
    let (engine, config) = (
        services.engine.clone(),
        services.config.subscriptions.clone(),
    );
    let pace = Pace::Every(Duration::from_mins(1));
    Loop::leader("subscription cleaner", pace, move |records| {
        let (engine, config) = (engine.clone(), config.clone());
        async move { round(&records, &engine, &config).await }
    })
}

/// One round.
async fn round(
    records: &Records,
    engine: &WorkflowEngine,
    config: &SubscriptionConfig,
) -> Result<(), OpError> {
    let mut after = None;
    loop {
        let now = records.now();
        let due = records
            .db
            .due_subscriptions(now, config, after, PAGE)
            .await?;
        for id in &due {
            let moved = retried(|| advance(records, engine, config, *id)).await;
            log_failure(*id, moved);
        }
        match due.last() {
            Some(last) => after = Some(*last),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let left = records.db.expired_subscriptions_with_a_node(after, PAGE);
        let left = left.await?;
        for id in &left {
            let removed = retried(|| remove_node_of(records, engine, *id)).await;
            log_failure(*id, removed);
        }
        match left.last() {
            Some(last) => after = Some(*last),
            None => return Ok(()),
        }
    }
}

/// Applies every deadline of one subscription that has passed.
async fn advance(
    records: &Records,
    engine: &WorkflowEngine,
    config: &SubscriptionConfig,
    id: SubscriptionId,
) -> Result<(), OpError> {
    let (now, host) = (records.now(), Principal::host());
    let mut tx = records.db.begin().await?;
    let Some(locked) = lock_subscription(&mut tx, id).await? else {
        return Ok(());
    };
    // A payment may have been faster, for example.
    let Some(event) = locked.subscription.due(now, config) else {
        return Ok(());
    };
    let moved = move_subscription(&mut tx, &host, locked, event, config, now);
    let moved = moved.await?;
    tx.commit().await?;
    let state = moved.subscription.state;
    tracing::info!(subscription.id = %id, "the subscription is `{state}` after its deadline: `{event}`");
    engine.follow_removal(&host, moved.removal).await
}

/// Begins the removal of a node that has outlived its subscription.
async fn remove_node_of(
    records: &Records,
    engine: &WorkflowEngine,
    id: SubscriptionId,
) -> Result<(), OpError> {
    let (now, host) = (records.now(), Principal::host());
    let mut tx = records.db.begin().await?;
    let Some(locked) = lock_subscription(&mut tx, id).await? else {
        return Ok(());
    };
    let is_over = locked.subscription.state == SubscriptionState::Expired;
    let Some(node) = locked.node.filter(|_| is_over) else {
        return Ok(());
    };
    let removal = begin_removal(&mut tx, &host, &node, RemovalRequest::BY_HOST, now).await?;
    if removal.is_new() {
        tx.commit().await?;
    }
    engine.follow_removal(&host, removal).await
}

/// A subscription that fails must not delay the others.
fn log_failure(id: SubscriptionId, outcome: Result<(), OpError>) {
    if let Err(error) = outcome {
        tracing::warn!(subscription.id = %id, "a subscription is moved later: {:#}", anyhow::Error::from(error));
    }
}

#[cfg(test)]
mod tests;
