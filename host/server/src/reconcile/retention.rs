//! Forgets what is older than it has to be, a bounded batch at a time.

use crate::app::App;
use crate::ops::OpError;

/// Rows that are removed in one transaction.
const BATCH: u32 = 5_000;

/// One round.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    super::plugin_kv::round(&app).await?;
    let now = app.clock.now();
    let keep = &app.config.retention;
    loop {
        let mut tx = app.db.begin().await?;
        let observations = tx
            .prune_observations(now.minus(keep.observations), BATCH)
            .await?;
        let events = tx.prune_event_log(now.minus(keep.events), BATCH).await?;
        let audit = tx.prune_audit(now.minus(keep.audit), BATCH).await?;
        tx.prune_api_keys(now.minus(keep.api_keys), BATCH).await?;
        tx.prune_idempotent_answers(now, BATCH).await?;
        tx.commit().await?;
        let largest = observations.max(events).max(audit);
        if largest < u64::from(BATCH) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
