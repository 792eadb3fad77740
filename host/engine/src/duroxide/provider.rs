//! Duroxide's SQLite store with one writer at a time.
//!
//! Duroxide starts deferred transactions on five connections: two that read and then write deadlock, and a commit
//! that fails can fail a child workflow for good and hang its parent. Here every writing call waits for its turn and
//! is retried after a transient error. Fetches also wait for a wake-up from whatever queues work instead of polling
//! twenty times a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use duroxide::ClientError;
use duroxide::providers::sqlite::SqliteProvider;
use duroxide::providers::{ProviderAdmin, ProviderError};
use futures_util::future::BoxFuture;
use host_workflows::Status;
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify, watch};

/// How many times a call is retried after a transient error.
const REPEATS_MAX: u32 = 10;
/// The pause before the first retry; it doubles.
const REPEAT_PAUSE: Duration = Duration::from_millis(5);
/// The store that the engine runs on.
pub(super) struct SerialProvider {
    pub(super) inner: SqliteProvider,
    writer: Mutex<()>,
    troubles: AtomicU64,
    /// Workflow messages were queued.
    pub(super) turns: Notify,
    /// Activities were queued.
    pub(super) work: Notify,
    /// Notifies that a workflow ended.
    ended: Notify,
    /// Workflows that were started and have no history yet.
    starting: StdMutex<HashMap<String, Status>>,
    /// How many fetched workflow messages are not acknowledged yet.
    pub(super) unacknowledged: AtomicUsize,
    /// Whether every message queued before startup was fetched once.
    pub(super) is_settled: watch::Sender<bool>,
}

impl SerialProvider {
    /// Wraps a store.
    pub(super) fn new(inner: SqliteProvider) -> Self {
        Self {
            inner,
            writer: Mutex::new(()),
            troubles: AtomicU64::new(0),
            turns: Notify::new(),
            work: Notify::new(),
            ended: Notify::new(),
            starting: StdMutex::default(),
            unacknowledged: AtomicUsize::new(0),
            is_settled: watch::Sender::new(false),
        }
    }

    /// Runs a writing call when its turn comes, and retries it after a transient error.
    pub(super) async fn in_turn<'a, T, E: Passing>(
        &self,
        call: impl Fn() -> BoxFuture<'a, Result<T, E>> + Send + Sync,
    ) -> Result<T, E> {
        let mut repeats = 0;
        loop {
            let outcome = {
                let _turn = self.writer.lock().await;
                call().await
            };
            match outcome {
                Err(error) if error.may_pass() => {
                    self.troubles.fetch_add(1, Ordering::Relaxed);
                    crate::metrics::trouble();
                    if repeats == REPEATS_MAX {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
            tokio::time::sleep(REPEAT_PAUSE * 2_u32.pow(repeats)).await;
            repeats += 1;
        }
    }

    /// How many calls met a transient error.
    pub(super) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Relaxed)
    }

    /// Resolves when the next workflow ends.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Waits until every message that was queued before startup was fetched once.
    pub(super) async fn settled(&self, limit: Duration) {
        let mut settled = self.is_settled.subscribe();
        // A long queue must not prevent startup.
        drop(tokio::time::timeout(limit, settled.wait_for(|is_settled| *is_settled)).await);
    }

    /// A workflow that was started and has no history yet.
    pub(super) fn starting_status(&self, id: &str) -> Option<Status> {
        self.starting().get(id).cloned()
    }

    /// Records that a workflow is being started.
    pub(super) fn note_starting(&self, status: Status) {
        self.starting().insert(status.id.clone(), status);
    }

    /// Removes that record.
    pub(super) fn forget_starting(&self, id: &str) {
        self.starting().remove(id);
    }

    /// The executions of a workflow, including the current one.
    pub(super) async fn list_executions(&self, id: &str) -> Result<Vec<u64>, ProviderError> {
        self.inner.list_executions(id).await
    }

    /// Ids of all workflows.
    pub(super) async fn list_instances(&self) -> Result<Vec<String>, ProviderError> {
        self.inner.list_instances().await
    }

    /// Ids of the workflows in a state.
    pub(super) async fn list_instances_by_status(
        &self,
        status: &str,
    ) -> Result<Vec<String>, ProviderError> {
        self.inner.list_instances_by_status(status).await
    }

    fn starting(&self) -> MutexGuard<'_, HashMap<String, Status>> {
        // No holder panics.
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a fetched message as acknowledged.
    pub(super) fn acknowledged(&self) {
        let less = |count: usize| Some(count.saturating_sub(1));
        // The closure always returns `Some`, so this can't fail.
        let _ = self
            .unacknowledged
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Wakes the fetches that wait for what an acknowledged turn queued.
    pub(super) fn wake_after_turn(&self, n_activities: usize, n_messages: usize, has_ended: bool) {
        for _ in 0..n_activities {
            self.work.notify_one();
        }
        // One more than the queued messages: the workflow itself may have received some meanwhile.
        for _ in 0..=n_messages {
            self.turns.notify_one();
        }
        if has_ended {
            self.ended.notify_waiters();
        }
    }
}

/// Errors that say whether a retry may help.
pub(super) trait Passing {
    /// Whether the error is transient.
    fn may_pass(&self) -> bool;
}

impl Passing for ProviderError {
    fn may_pass(&self) -> bool {
        // Duroxide reports some locked databases as permanent errors.
        self.is_retryable() || self.message.contains("database is locked")
    }
}

impl Passing for ClientError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Provider(error) => error.may_pass(),
            Self::Timeout => true,
            Self::ManagementNotAvailable
            | Self::InvalidInput { .. }
            | Self::InstanceStillRunning { .. }
            | Self::CannotDeleteSubOrchestration { .. }
            | Self::InstanceNotFound { .. } => false,
        }
    }
}
