//! Whether some agent may have lost its standing, known without asking the database for each beat.
//!
//! A session reads its agent's row when it begins and again only when somebody, anywhere, was revoked since. This
//! process counts its own revocations when they are committed; those of other processes are counted here, by one small
//! question twice in each interval of beats, however many agents there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use host_store::Db;

/// The revocations that were seen.
#[derive(Default)]
pub(super) struct Standing {
    seen: AtomicU64,
}

impl Standing {
    /// Rises with each revocation; an agent whose row was read at this number is still what it was then.
    pub(super) fn number(&self, db: &Db) -> u64 {
        // Both only rise, so that their sum changes whenever one of them does.
        db.revocations() + self.seen.load(Ordering::Acquire)
    }

    /// Looks for what other processes revoked, until `stop`.
    pub(super) async fn run(&self, db: &Db, beat_interval: Duration, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            match db.revoked_agents().await {
                Ok(revoked) => self.seen.store(revoked, Ordering::Release),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "agents that another host process revoked are not seen; looking again"
                ),
            }
            tokio::select! {
                () = tokio::time::sleep(beat_interval / 2) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}
