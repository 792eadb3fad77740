//! Deletes rows that exceed their retention time, a bounded batch at a time. [`KINDS`] lists how long each kind of row is kept.

use std::time::Duration;

use futures_util::future::BoxFuture;
use host_domain::time::Millis;
use host_store::{StoreError, Tx};

use super::loops::{Loop, Pace};
use crate::config::RetentionConfig;
use crate::ops::{OpError, Records};
use crate::services::Services;

/// Rows that are deleted in one transaction.
const BATCH: u32 = 5_000;

/// Deletes a batch of a kind of row and returns how many rows it deleted.
type Prune =
    for<'a> fn(&'a mut Tx, &'a RetentionConfig, Millis) -> BoxFuture<'a, Result<u64, StoreError>>;

/// Every kind of row that is deleted by age.
const KINDS: &[Prune] = &[
    |tx, keep, now| Box::pin(tx.prune_observations(now.minus(keep.observations), BATCH)),
    |tx, keep, now| Box::pin(tx.prune_event_log(now.minus(keep.events), BATCH)),
    |tx, keep, now| Box::pin(tx.prune_audit(now.minus(keep.audit), BATCH)),
    |tx, keep, now| Box::pin(tx.prune_api_keys(now.minus(keep.api_keys), BATCH)),
    // Answers have their own expiry.
    |tx, _, now| Box::pin(tx.prune_idempotent_answers(now, BATCH)),
];

/// Deletes old rows, on the leader.
pub(super) fn retention(services: &Services) -> Loop {
    let keep = services.config.retention.clone();
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::leader("retention", pace, move |records| {
        let keep = keep.clone();
        async move { round(&records, &keep).await }
    })
}

/// One round.
pub(super) async fn round(records: &Records, keep: &RetentionConfig) -> Result<(), OpError> {
    let now = records.now();
    loop {
        let mut is_full = false;
        let mut tx = records.db.begin().await?;
        for prune in KINDS {
            is_full |= prune(&mut tx, keep, now).await? >= u64::from(BATCH);
        }
        tx.commit().await?;
        if !is_full {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
