//! Contends for the lead of the fleet, and says whether this process has it (design: domain.md, Leader election).
//!
//! The lead is a lock that falls with its holder; what makes it safe is the epoch: each tenure has a higher one, and the
//! transactions of leaders prove theirs. A leader that was frozen, or cut off and does not know it yet, can begin nothing.

use std::time::Duration;

use crate::app::App;
use crate::ops::OpError;
use host_store::{Contender, Fence, StoreError};

/// What is led.
const NAME: &str = "fleet";
/// Signs of life within one lease: one may be lost.
const SIGNS: u32 = 3;

/// Contends until the app ends.
pub(crate) async fn run(app: App) {
    let lease = lease(app.config.health.heartbeat.evaluation_interval);
    loop {
        let outcome = serve_tenure(&app, lease).await;
        if app.lead.send_replace(None).is_some() {
            tracing::info!("this host does not lead any more");
        }
        crate::metrics::leads(false);
        match outcome {
            Ok(()) => return,
            Err(error) => tracing::warn!("contending for the lead: {error:#}"),
        }
        tokio::select! {
            () = app.shutdown.cancelled() => return,
            () = tokio::time::sleep(lease / SIGNS) => {}
        }
    }
}

/// A standby leads within one evaluation: the silent leader's lease and one look of the standby fit into it.
fn lease(evaluation: Duration) -> Duration {
    (evaluation / 2).clamp(Duration::from_secs(1), Duration::from_secs(15))
}

/// Waits for the lead and keeps it until it is lost (an error) or the app ends.
async fn serve_tenure(app: &App, lease: Duration) -> Result<(), OpError> {
    let pause = lease / SIGNS;
    let mut contender = within(lease, app.db.contend(lease)).await?;
    while !within(lease, contender.try_lead(NAME)).await? {
        if is_over(app, pause).await {
            return leave(contender).await;
        }
    }
    let mut tx = app.db.begin().await?;
    let epoch = tx
        .take_leader_epoch(NAME, &app.worker, app.clock.now())
        .await?;
    tx.commit().await?;
    // The wait for the epoch may have been longer than the lease.
    within(pause, contender.renew()).await?;
    tracing::info!(epoch, "this host leads");
    crate::metrics::leads(true);
    app.lead.send_replace(Some(Fence {
        name: NAME.to_owned(),
        epoch,
    }));
    while !is_over(app, pause).await {
        within(pause, contender.renew()).await?;
    }
    app.lead.send_replace(None);
    leave(contender).await
}

async fn leave(contender: Contender) -> Result<(), OpError> {
    Ok(contender.leave().await?)
}

/// Whether the app ends within `pause`.
async fn is_over(app: &App, pause: Duration) -> bool {
    tokio::select! {
        () = app.shutdown.cancelled() => true,
        () = tokio::time::sleep(pause) => false,
    }
}

async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, OpError> {
    match tokio::time::timeout(limit, asked).await {
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
