//! Contends for the lead of the fleet, and publishes whether this process has it.
//!
//! The lead is a lock that falls with its holder; what makes it safe is the epoch: each tenure has a higher one, and the
//! transactions of leaders prove theirs. A leader that was frozen, or cut off and does not know it yet, can begin nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ops::{OpError, Records};
use crate::services::Services;
use host_store::{Contender, Fence, Role, StoreError};

/// What is led.
const NAME: &str = "fleet";
/// Signs of life within one lease: one may be lost.
const SIGNS: u32 = 3;

/// What a host needs to contend for the lead.
pub(crate) struct Contest {
    records: Records,
    lead: Arc<watch::Sender<Option<Fence>>>,
    evaluation_interval: Duration,
    shutdown: CancellationToken,
}

impl Contest {
    pub(crate) fn of(services: &Services) -> Self {
        Self {
            records: services.records(Role::Health),
            lead: Arc::clone(&services.lead),
            evaluation_interval: services.config.health.heartbeat.evaluation_interval,
            shutdown: services.tasks.shutdown.clone(),
        }
    }
}

/// Contends until the host stops.
pub(crate) async fn run(contest: Contest) {
    let lease = lease(contest.evaluation_interval);
    loop {
        let outcome = serve_tenure(&contest, lease).await;
        if contest.lead.send_replace(None).is_some() {
            tracing::info!("this host does not lead any more");
        }
        crate::metrics::leads(false);
        match outcome {
            Ok(()) => return,
            Err(error) => tracing::warn!("contending for the lead: {error:#}"),
        }
        tokio::select! {
            () = contest.shutdown.cancelled() => return,
            () = tokio::time::sleep(lease / SIGNS) => {}
        }
    }
}

/// A standby leads within one evaluation: the silent leader's lease and one look of the standby fit into it.
fn lease(evaluation: Duration) -> Duration {
    (evaluation / 2).clamp(Duration::from_secs(1), Duration::from_secs(15))
}

/// Waits for the lead and keeps it until it is lost (an error) or the host stops.
async fn serve_tenure(contest: &Contest, lease: Duration) -> Result<(), OpError> {
    let pause = lease / SIGNS;
    let mut contender = within(lease, contest.records.db.contend(lease)).await?;
    while !within(lease, contender.try_lead(NAME)).await? {
        if is_over(contest, pause).await {
            return leave(contender).await;
        }
    }
    let mut tx = contest.records.db.begin().await?;
    let epoch = tx
        .take_leader_epoch(NAME, &contest.records.worker, contest.records.now())
        .await?;
    tx.commit().await?;
    // The wait for the epoch may have been longer than the lease.
    within(pause, contender.renew()).await?;
    tracing::info!(epoch, "this host leads");
    crate::metrics::leads(true);
    contest.lead.send_replace(Some(Fence {
        name: NAME.to_owned(),
        epoch,
    }));
    while !is_over(contest, pause).await {
        within(pause, contender.renew()).await?;
    }
    contest.lead.send_replace(None);
    leave(contender).await
}

async fn leave(contender: Contender) -> Result<(), OpError> {
    Ok(contender.leave().await?)
}

/// Whether the host stops within `pause`.
async fn is_over(contest: &Contest, pause: Duration) -> bool {
    tokio::select! {
        () = contest.shutdown.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, OpError> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => Ok(answer?),
        Err(late) => Err(OpError::Unavailable {
            what: "the database",
            source: late.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_leads_within_one_evaluation() {
        for evaluation_s in [3, 5, 10, 30, 60] {
            let evaluation = Duration::from_secs(evaluation_s);
            let lease = lease(evaluation);
            assert!(lease + lease / SIGNS <= evaluation, "{evaluation:?}");
        }
    }
}
