//! What keeps reality and records together: loops that take no input, are idempotent, and look again by themselves.
//!
//! A failed round is logged and left to the next one; none retries inside.

pub(crate) mod bus;
pub(crate) mod cleaners;
pub(crate) mod escalations;
pub(crate) mod event_tail;
pub(crate) mod heartbeats;
pub(crate) mod keys;
pub(crate) mod leadership;
pub(crate) mod machines;
pub(crate) mod migrations;
pub(crate) mod notifications;
pub(crate) mod outbox;
mod plugin_kv;
pub(crate) mod policies;
pub(crate) mod retention;
pub(crate) mod subscriptions;
pub(crate) mod watchdog;
pub(crate) mod workflows;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::app::App;
use crate::ops::OpError;
use host_store::retried;

/// Runs `round` at once and then every `period`, also when `wake` says that there is something to do; ends with the app.
pub(crate) async fn every<F, Fut, E>(app: App, name: &'static str, period: Duration, mut round: F)
where
    F: FnMut(App) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut ticks = interval_at(Instant::now(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        run(&app, name, round(app.clone())).await;
    }
}

/// Runs `round` at once and then every `period`, while this process leads; ends with the app. The round's database is fenced:
/// of a tenure that is over it writes nothing.
pub(crate) async fn leading<F, Fut, E>(app: App, name: &'static str, period: Duration, round: F)
where
    F: FnMut(App) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    led(app, name, Pace::Every(period), round).await;
}

/// When a loop of the leader looks.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// From time to time.
    Every(Duration),
    /// When something was committed, and from time to time.
    OnChange(Duration),
}

/// Runs `round` in its pace, while this process leads.
pub(crate) async fn led<F, Fut, E>(app: App, name: &'static str, pace: Pace, mut round: F)
where
    F: FnMut(App) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut lead = app.lead.subscribe();
    loop {
        let fence = tokio::select! {
            () = app.shutdown.cancelled() => return,
            begun = lead.wait_for(Option::is_some) => begun.ok().and_then(|fence| fence.clone()),
        };
        let Some(fence) = fence else { return };
        let led = app.led_by(fence);
        let rounds = async {
            match pace {
                Pace::Every(period) => every(led, name, period, &mut round).await,
                Pace::OnChange(period) => on_change(led, name, period, &mut round).await,
            }
        };
        tokio::select! {
            () = rounds => return,
            // What was begun is dropped, and undone where it had not ended.
            _ = lead.changed() => {}
        }
    }
}

/// Runs `round` whenever something was committed, and every `period` in case a wake-up was lost.
pub(crate) async fn on_change<F, Fut, E>(
    app: App,
    name: &'static str,
    period: Duration,
    mut round: F,
) where
    F: FnMut(App) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut changes = app.db.changes();
    loop {
        changes.mark_unchanged();
        run(&app, name, round(app.clone())).await;
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// Decisions of one transaction: its locks are held for milliseconds.
const BATCH: usize = 100;

/// Applies decisions about nodes, many in one transaction. A batch that fails is applied one by one, so that a node that
/// somebody changed meanwhile, or that can't be changed, holds up no other. What is stale is left to the next round; of other
/// failures the first is told when the rest is done.
pub(crate) async fn in_batches<'a, T, F>(
    decisions: &'a [T],
    apply: impl Fn(&'a [T]) -> F,
) -> Result<(), OpError>
where
    F: Future<Output = Result<(), OpError>>,
{
    let mut outcome = Ok(());
    for batch in decisions.chunks(BATCH) {
        if batch.len() > 1 {
            match retried(|| apply(batch)).await {
                Ok(()) => continue,
                Err(error @ OpError::Unavailable { .. }) => return Err(error),
                Err(error) => tracing::debug!("a batch is applied one by one: {error:#}"),
            }
        }
        for one in batch.chunks(1) {
            match retried(|| apply(one)).await {
                Ok(()) | Err(OpError::Stale { .. }) => {}
                Err(error @ OpError::Unavailable { .. }) => return Err(error),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome
}

async fn run<E: std::fmt::Display>(
    app: &App,
    name: &'static str,
    round: impl Future<Output = Result<(), E>>,
) {
    tokio::select! {
        () = app.shutdown.cancelled() => {}
        outcome = round => if let Err(error) = outcome {
            tracing::warn!(task = name, "{error:#}; the next round tries again");
        }
    }
}

#[cfg(test)]
mod tests;
