//! Counts revocations of agents, so that a session reads its agent's row again only after one.
//!
//! A session reads its agent's row when it starts, and again when any host has revoked any agent since. The store counts
//! the revocations of this process when they commit. This counter polls for those of other processes: one small query
//! twice in each interval of beats, however many agents there are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::AgentStore;

/// Counts revocations.
#[derive(Default)]
pub(crate) struct RevocationCounter {
    polled: AtomicU64,
}

impl RevocationCounter {
    /// Changes with each revocation: an agent whose row was read at this count is not revoked since.
    pub(crate) fn count(&self, store: &(impl AgentStore + ?Sized)) -> u64 {
        // Both only rise, so the sum changes whenever one of them does.
        store.revocations_here() + self.polled.load(Ordering::Acquire)
    }

    /// Polls for the revocations of other processes until `stop`.
    pub(crate) async fn run(
        &self,
        store: &(impl AgentStore + ?Sized),
        beat_interval: Duration,
        stop: &CancellationToken,
    ) {
        while !stop.is_cancelled() {
            self.poll(store).await;
            tokio::select! {
                () = tokio::time::sleep(beat_interval / 2) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn poll(&self, store: &(impl AgentStore + ?Sized)) {
        match store.revocations_anywhere().await {
            Ok(revoked) => self.polled.store(revoked, Ordering::Release),
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "can't poll for agents that other hosts revoked; retrying"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_store::TestStore;

    #[tokio::test]
    async fn the_count_changes_with_revocations_here_and_elsewhere() {
        let store = TestStore::default();
        let counter = RevocationCounter::default();
        let first = counter.count(&store);
        store.revoke_here();
        let second = counter.count(&store);
        assert_ne!(first, second);
        store.revoke_elsewhere();
        assert_eq!(counter.count(&store), second);
        counter.poll(&store).await;
        assert_ne!(counter.count(&store), second);
    }

    #[tokio::test]
    async fn a_failed_poll_keeps_the_count() {
        let store = TestStore::default();
        let counter = RevocationCounter::default();
        store.revoke_elsewhere();
        counter.poll(&store).await;
        let polled = counter.count(&store);
        store.fail(true);
        counter.poll(&store).await;
        assert_eq!(counter.count(&store), polled);
    }
}
