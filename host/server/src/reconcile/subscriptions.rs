//! What the clock does with subscriptions (design: domain.md, Subscription and Leader election): an unpaid one expires, one
//! whose term is over is past due, one whose grace is over or that was cancelled expires and its node is terminated.
//!
//! No workflow sleeps for a term: each round asks the rows what is due by now. State and removal are one transaction; where a
//! node could not be removed then, because it was being moved, later rounds find it and go on.

use host_domain::ids::SubscriptionId;
use host_domain::subscription::SubscriptionState;

use crate::app::App;
use crate::ops::{Asked, OpError, Principal, begin_removal, hold_subscription};
use host_store::retried;

/// Subscriptions that are read at once.
const PAGE: u32 = 500;

/// One round.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let mut after = None;
    loop {
        let now = app.clock.now();
        let config = &app.config.subscriptions;
        let due = app.db.due_subscriptions(now, config, after, PAGE).await?;
        for id in &due {
            let moved = retried(|| advance(&app, *id)).await;
            log_failure(*id, moved);
        }
        match due.last() {
            Some(last) => after = Some(*last),
            None => break,
        }
    }
    let mut after = None;
    loop {
        let left = app.db.expired_subscriptions_with_a_node(after, PAGE);
        let left = left.await?;
        for id in &left {
            let removed = retried(|| remove_node_of(&app, *id)).await;
            log_failure(*id, removed);
        }
        match left.last() {
            Some(last) => after = Some(*last),
            None => return Ok(()),
        }
    }
}

/// Moves one subscription as far as the clock wants it by now.
async fn advance(app: &App, id: SubscriptionId) -> Result<(), OpError> {
    let (now, host) = (app.clock.now(), Principal::host());
    let mut tx = app.db.begin().await?;
    let Some(held) = hold_subscription(&mut tx, id).await? else {
        return Ok(());
    };
    // Somebody may have been faster, with a payment for example.
    let Some(event) = held.subscription.due(now, &app.config.subscriptions) else {
        return Ok(());
    };
    let moved = app.move_subscription(&mut tx, &host, held, event, now);
    let moved = moved.await?;
    tx.commit().await?;
    let state = moved.subscription.state;
    tracing::info!(subscription.id = %id, "the subscription is `{state}` by the clock: `{event}`");
    app.follow_removal(&host, moved.removal).await
}

/// Begins the removal of a node that has outlived its subscription.
async fn remove_node_of(app: &App, id: SubscriptionId) -> Result<(), OpError> {
    let (now, host) = (app.clock.now(), Principal::host());
    let mut tx = app.db.begin().await?;
    let Some(held) = hold_subscription(&mut tx, id).await? else {
        return Ok(());
    };
    let is_over = held.subscription.state == SubscriptionState::Expired;
    let Some(node) = held.node.filter(|_| is_over) else {
        return Ok(());
    };
    let removal = begin_removal(&mut tx, &host, &node, Asked::BY_HOST, now).await?;
    if removal.is_new() {
        tx.commit().await?;
    }
    app.follow_removal(&host, removal).await
}

/// Those behind it must not wait for one that fails.
fn log_failure(id: SubscriptionId, outcome: Result<(), OpError>) {
    if let Err(error) = outcome {
        tracing::warn!(subscription.id = %id, "a subscription is moved later: {:#}", anyhow::Error::from(error));
    }
}

#[cfg(test)]
mod tests;
