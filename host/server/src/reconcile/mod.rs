//! What keeps reality and records together: loops that take no input, are idempotent, and poll.
//!
//! A failed round is logged and left to the next one; none retries inside. Each noun's file has its loop with its period next to
//! it; [`loops()`] lists them.

pub(crate) mod bus;
mod cleaners;
mod collectors;
mod engine;
mod escalations;
mod event_tail;
mod heartbeats;
mod keys;
pub(crate) mod leadership;
mod loops;
mod machines;
mod migrations;
mod notifications;
mod outbox;
mod plugin_kv;
mod plugin_secrets;
mod policies;
mod retention;
mod subscriptions;
mod watchdog;
mod workflows;

use std::future::Future;

use loops::Loop;
pub(crate) use loops::spawn;
pub use policies::Evaluation;

use crate::ops::OpError;
use crate::orchestration::Orchestrator;
use crate::services::Services;
use host_store::retried;

/// Every loop of a host. Those that need the engine are absent where another host has it.
pub(crate) async fn loops(
    services: &Services,
    engine: Option<&Orchestrator>,
) -> Result<Vec<Loop>, OpError> {
    let mut loops = vec![
        bus::publish(services),
        bus::measure_lags(services),
        cleaners::maintenance_cleaner(services),
        collectors::collectors(services),
        escalations::escalations(services),
        event_tail::event_tail(services).await?,
        heartbeats::heartbeats(services),
        keys::key_cleaner(services),
        keys::keep_vault_login(services),
        migrations::automatic_migrations(services),
        notifications::dispatcher(services),
        outbox::outbox(services),
        plugin_kv::plugin_state(services),
        plugin_secrets::plugin_secrets(services),
        policies::policies(services),
        retention::retention(services),
        subscriptions::subscription_cleaner(services),
    ];
    if let Some(engine) = engine {
        loops.extend([
            cleaners::provisioning_cleaner(services),
            machines::machine_cleaner(services),
            watchdog::watchdog(services),
            workflows::workflow_starts(services),
        ]);
        loops.extend(engine::embedded_engine(services, engine));
    }
    Ok(loops)
}

/// Decisions of one transaction: its locks are held for milliseconds.
const BATCH: usize = 100;

/// Applies decisions about nodes, many in one transaction. A batch that fails is applied one by one, so that a node that changed
/// concurrently, or can't be changed, delays no other. The next round repeats stale decisions; of other failures the first one is
/// returned when the rest is done.
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

#[cfg(test)]
mod tests;
