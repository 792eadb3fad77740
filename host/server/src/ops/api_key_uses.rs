//! When each API key was last used, to about a minute.
//!
//! A request only reports its use to a bounded queue, without waiting and without a lock; one task writes what was reported.
//! If the queue is full, the report is lost, and a later request reports again.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::api_key::{ApiKey, LAST_USED_STEP};
use host_domain::ids::ApiKeyId;
use host_domain::time::Millis;
use host_store::{Db, StoreError, retried};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// Reports that wait to be written.
const QUEUE: usize = 1024;
/// How long reports are collected before they are written in one transaction.
const COLLECTED_FOR: Duration = Duration::from_millis(500);

/// Where requests report the uses of keys.
#[derive(Clone, Debug)]
pub(crate) struct ApiKeyUses(mpsc::Sender<(ApiKeyId, Millis)>);

/// Writes what was reported.
#[derive(Debug)]
struct ApiKeyUsesWriter(mpsc::Receiver<(ApiKeyId, Millis)>);

impl ApiKeyUses {
    /// Starts the task that writes what is reported.
    pub(crate) fn start(db: Db, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tasks.spawn(ApiKeyUsesWriter(receiver).run(db, tasks.shutdown.clone()));
        Self(sender)
    }

    /// Reports a use, if none is recorded within the last minute.
    pub(crate) fn report(&self, key: &ApiKey, at: Millis) {
        if key.is_use_recorded(at) && self.0.try_send((key.id, at)).is_err() {
            tracing::debug!(
                "a use of the API key {} is not recorded: too many wait",
                key.id
            );
        }
    }
}

impl ApiKeyUsesWriter {
    /// Writes until `shutdown`, and then what is left.
    async fn run(mut self, db: Db, shutdown: CancellationToken) {
        loop {
            let first = tokio::select! {
                first = self.0.recv() => first,
                () = shutdown.cancelled() => None,
            };
            if first.is_some() {
                let pause = tokio::time::sleep(COLLECTED_FOR);
                tokio::select! { () = pause => {}, () = shutdown.cancelled() => {} }
            }
            let is_over = first.is_none();
            let uses = self.collected(first);
            if let Err(error) = retried(|| write(&db, &uses)).await {
                tracing::warn!(
                    "the last uses of {} API keys could not be recorded: {error}",
                    uses.len()
                );
            }
            if is_over {
                return;
            }
        }
    }

    /// The newest use of each key.
    fn collected(&mut self, first: Option<(ApiKeyId, Millis)>) -> BTreeMap<ApiKeyId, Millis> {
        let mut uses: BTreeMap<_, _> = first.into_iter().collect();
        // Bounded: requests that report meanwhile wait for the next transaction.
        for _ in 0..QUEUE {
            let Ok((id, at)) = self.0.try_recv() else {
                break;
            };
            let newest = uses.entry(id).or_insert(at);
            *newest = at.max(*newest);
        }
        uses
    }
}

async fn write(db: &Db, uses: &BTreeMap<ApiKeyId, Millis>) -> Result<(), StoreError> {
    if uses.is_empty() {
        return Ok(());
    }
    let mut tx = db.begin().await?;
    // In the order of ids, so that two hosts never wait for each other in a circle.
    for (id, at) in uses {
        let since = at.minus(LAST_USED_STEP);
        tx.record_api_key_use(*id, *at, since).await?;
    }
    tx.commit().await
}
