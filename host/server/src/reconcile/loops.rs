//! How loops run: on every host, on the one that leads, or on the one with the engine.

use std::time::Duration;

use futures_util::future::BoxFuture;
use host_store::Role;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::ops::Records;
use crate::services::Services;

/// One round of a loop. The records of a leader's loop are fenced: once another host leads, the database rejects its writes.
type Round = Box<dyn FnMut(Records) -> BoxFuture<'static, anyhow::Result<()>> + Send>;

/// Which hosts run a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    /// Every host.
    Everyone(Role),
    /// The host that leads the fleet.
    Leader,
}

/// When a loop runs its round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Periodically.
    Every(Duration),
    /// After each commit, and periodically in case a wake-up was lost.
    OnChange(Duration),
}

/// A loop with its pace.
pub(crate) struct Loop {
    name: &'static str,
    runner: Runner,
    pace: Pace,
    round: Round,
}

impl Loop {
    /// A loop of every host, or of every host with an engine, through the connections of a role.
    pub(super) fn everyone<F, Fut, E>(name: &'static str, role: Role, pace: Pace, round: F) -> Self
    where
        F: FnMut(Records) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        Self::new(name, Runner::Everyone(role), pace, round)
    }

    /// A loop of the host that leads: two hosts would do its work twice.
    pub(super) fn leader<F, Fut, E>(name: &'static str, pace: Pace, round: F) -> Self
    where
        F: FnMut(Records) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        Self::new(name, Runner::Leader, pace, round)
    }

    fn new<F, Fut, E>(name: &'static str, runner: Runner, pace: Pace, mut round: F) -> Self
    where
        F: FnMut(Records) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<anyhow::Error>,
    {
        Self {
            name,
            runner,
            pace,
            round: Box::new(move |records| {
                let done = round(records);
                Box::pin(async move { done.await.map_err(Into::into) })
            }),
        }
    }

    async fn run_on_every_host(mut self, records: Records, shutdown: CancellationToken) {
        self.run(&records, &shutdown).await;
    }

    /// Runs while this process leads.
    async fn run_on_leader(
        mut self,
        records: Records,
        mut lead: tokio::sync::watch::Receiver<Option<host_store::Fence>>,
        shutdown: CancellationToken,
    ) {
        loop {
            let fence = tokio::select! {
                () = shutdown.cancelled() => return,
                begun = lead.wait_for(Option::is_some) => begun.ok().and_then(|fence| fence.clone()),
            };
            let Some(fence) = fence else { return };
            let fenced = records.fenced(fence);
            tokio::select! {
                () = self.run(&fenced, &shutdown) => return,
                // The dropped round's transaction is rolled back.
                _ = lead.changed() => {}
            }
        }
    }

    /// Runs rounds until the shutdown.
    async fn run(&mut self, records: &Records, shutdown: &CancellationToken) {
        match self.pace {
            Pace::Every(period) => self.run_every(period, records, shutdown).await,
            Pace::OnChange(period) => self.run_on_change(period, records, shutdown).await,
        }
    }

    async fn run_every(
        &mut self,
        period: Duration,
        records: &Records,
        shutdown: &CancellationToken,
    ) {
        let mut ticks = interval_at(Instant::now(), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.run_once(records, shutdown).await;
        }
    }

    async fn run_on_change(
        &mut self,
        period: Duration,
        records: &Records,
        shutdown: &CancellationToken,
    ) {
        let mut changes = records.db.changes();
        loop {
            changes.mark_unchanged();
            self.run_once(records, shutdown).await;
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = changes.changed() => {}
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    async fn run_once(&mut self, records: &Records, shutdown: &CancellationToken) {
        let round = (self.round)(records.clone());
        tokio::select! {
            () = shutdown.cancelled() => {}
            outcome = round => if let Err(error) = outcome {
                tracing::warn!(task = self.name, "{error:#}; the next round retries");
            }
        }
    }
}

/// Spawns a loop, which ends with the host.
pub(crate) fn spawn(services: &Services, looped: Loop) {
    let shutdown = services.tasks.shutdown.clone();
    match looped.runner {
        Runner::Everyone(role) => {
            let records = services.records(role);
            let task = looped.run_on_every_host(records, shutdown);
            services.tasks.spawn(task);
        }
        Runner::Leader => {
            let (records, lead) = (services.records(Role::Health), services.lead.subscribe());
            let task = looped.run_on_leader(records, lead, shutdown);
            services.tasks.spawn(task);
        }
    }
}
