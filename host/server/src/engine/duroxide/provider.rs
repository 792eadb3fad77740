//! Duroxide's SQLite store with one writer at a time.
//!
//! Its transactions begin deferred on five connections: two that read and then write lock each other out, and a commit
//! that fails so can fail a child workflow for good and hang its parent. Here every writing call waits for its turn and
//! is repeated when the trouble may pass. The fetches also wait for work instead of asking twenty times a second: they
//! are woken by whatever queues something.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::sqlite::SqliteProvider;
use duroxide::providers::{
    DispatcherCapabilityFilter, ExecutionMetadata, OrchestrationItem, Provider, ProviderAdmin,
    ProviderError, ScheduledActivityIdentifier, SessionFetchConfig, TagFilter, WorkItem,
};
use duroxide::{ClientError, Event, EventKind, SystemStats};
use futures_util::future::BoxFuture;
use tokio::sync::futures::Notified;
use tokio::sync::{Mutex, Notify, watch};

/// Repeats of a call that met trouble which may pass.
const REPEATS_MAX: u32 = 10;
/// The pause before the first repeat; it doubles.
const REPEAT_PAUSE: Duration = Duration::from_millis(5);
/// How long a fetch of workflow messages waits for a wake-up; timers come due without one.
const TURN_IDLE: Duration = Duration::from_millis(100);
/// How long a fetch of activities waits for a wake-up; only given-up locks come due without one.
const WORK_IDLE: Duration = Duration::from_secs(1);

/// The store that the engine runs on.
pub(super) struct SerialProvider {
    inner: SqliteProvider,
    writer: Mutex<()>,
    troubles: AtomicU64,
    /// Workflow messages were queued.
    turns: Notify,
    /// Activities were queued.
    work: Notify,
    /// A workflow ended.
    ended: Notify,
    /// Ids that were started and have no history yet.
    starting: StdMutex<HashSet<String>>,
    /// Fetched workflow messages that are not acknowledged yet.
    unacknowledged: AtomicUsize,
    /// Whether there was a moment without unlooked-at messages since the start.
    is_settled: watch::Sender<bool>,
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

    /// Runs a writing call when its turn comes, and again when its trouble may pass.
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
                    metrics::counter!("workflow_engine_troubles_total").increment(1);
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

    /// How often a call met trouble that may pass.
    pub(super) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Relaxed)
    }

    /// Comes at the next end of a workflow.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.ended.notified()
    }

    /// Waits until everything that was queued before the start was looked at once.
    pub(super) async fn settled(&self, limit: Duration) {
        let mut settled = self.is_settled.subscribe();
        // Too many messages to look at all of them in time is no reason not to start.
        drop(tokio::time::timeout(limit, settled.wait_for(|is_settled| *is_settled)).await);
    }

    /// Whether a workflow was started and has no history yet.
    pub(super) fn is_starting(&self, id: &str) -> bool {
        self.starting().contains(id)
    }

    /// Notes that a workflow is being started.
    pub(super) fn note_starting(&self, id: &str) {
        self.starting().insert(id.to_owned());
    }

    /// Takes the note back.
    pub(super) fn forget_starting(&self, id: &str) {
        self.starting().remove(id);
    }

    /// Past executions of a workflow, the present one included.
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

    fn starting(&self) -> MutexGuard<'_, HashSet<String>> {
        // Nothing panics while holding it.
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn acknowledged(&self) {
        let less = |count: usize| Some(count.saturating_sub(1));
        // The closure always gives a value, so this can't fail.
        let _ = self
            .unacknowledged
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
    }

    /// Wakes whoever waits for what an acknowledged turn queued.
    fn wake_after_turn(&self, n_activities: usize, n_messages: usize, has_ended: bool) {
        for _ in 0..n_activities {
            self.work.notify_one();
        }
        // One more than the queued ones: messages for this workflow itself may have come meanwhile.
        for _ in 0..=n_messages {
            self.turns.notify_one();
        }
        if has_ended {
            self.ended.notify_waiters();
        }
    }
}

/// Errors that tell whether a repeat may help.
pub(super) trait Passing {
    /// Whether it may.
    fn may_pass(&self) -> bool;
}

impl Passing for ProviderError {
    fn may_pass(&self) -> bool {
        // Some locked databases are reported as permanent.
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

#[async_trait]
impl Provider for SerialProvider {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn version(&self) -> &str {
        self.inner.version()
    }

    async fn fetch_orchestration_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        filter: Option<&DispatcherCapabilityFilter>,
    ) -> Result<Option<(OrchestrationItem, String, u32)>, ProviderError> {
        let fetch = || {
            self.inner
                .fetch_orchestration_item(lock_timeout, poll_timeout, filter)
        };
        for is_last in [false, true] {
            let woken = self.turns.notified();
            let fetched = self.in_turn(fetch).await?;
            if fetched.is_some() {
                self.unacknowledged.fetch_add(1, Ordering::AcqRel);
                return Ok(fetched);
            }
            if self.unacknowledged.load(Ordering::Acquire) == 0 {
                self.is_settled.send_replace(true);
            }
            if is_last
                || tokio::time::timeout(TURN_IDLE.min(poll_timeout), woken)
                    .await
                    .is_err()
            {
                break;
            }
        }
        Ok(None)
    }

    async fn ack_orchestration_item(
        &self,
        token: &str,
        execution_id: u64,
        history_delta: Vec<Event>,
        worker_items: Vec<WorkItem>,
        orchestrator_items: Vec<WorkItem>,
        metadata: ExecutionMetadata,
        cancelled: Vec<ScheduledActivityIdentifier>,
    ) -> Result<(), ProviderError> {
        let outcome = self.in_turn(|| {
            self.inner.ack_orchestration_item(
                token,
                execution_id,
                history_delta.clone(),
                worker_items.clone(),
                orchestrator_items.clone(),
                metadata.clone(),
                cancelled.clone(),
            )
        });
        let outcome = outcome.await;
        self.acknowledged();
        if outcome.is_ok() {
            if let Some(started) = history_delta.iter().find(|event| is_start(event)) {
                self.forget_starting(&started.instance_id);
            }
            let has_ended = metadata.status.is_some();
            self.wake_after_turn(worker_items.len(), orchestrator_items.len(), has_ended);
        }
        outcome
    }

    async fn abandon_orchestration_item(
        &self,
        token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Result<(), ProviderError> {
        let outcome = self
            .in_turn(|| {
                self.inner
                    .abandon_orchestration_item(token, delay, ignore_attempt)
            })
            .await;
        self.acknowledged();
        self.turns.notify_one();
        outcome
    }

    async fn read(&self, instance: &str) -> Result<Vec<Event>, ProviderError> {
        self.inner.read(instance).await
    }

    async fn read_with_execution(
        &self,
        instance: &str,
        execution_id: u64,
    ) -> Result<Vec<Event>, ProviderError> {
        self.inner.read_with_execution(instance, execution_id).await
    }

    async fn append_with_execution(
        &self,
        instance: &str,
        execution_id: u64,
        new_events: Vec<Event>,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| {
            self.inner
                .append_with_execution(instance, execution_id, new_events.clone())
        })
        .await
    }

    async fn enqueue_for_worker(&self, item: WorkItem) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.enqueue_for_worker(item.clone()))
            .await?;
        self.work.notify_one();
        Ok(())
    }

    async fn fetch_work_item(
        &self,
        lock_timeout: Duration,
        poll_timeout: Duration,
        session: Option<&SessionFetchConfig>,
        tags: &TagFilter,
    ) -> Result<Option<(WorkItem, String, u32)>, ProviderError> {
        let fetch = || {
            self.inner
                .fetch_work_item(lock_timeout, poll_timeout, session, tags)
        };
        for is_last in [false, true] {
            let woken = self.work.notified();
            let fetched = self.in_turn(fetch).await?;
            if fetched.is_some() || is_last {
                return Ok(fetched);
            }
            if tokio::time::timeout(WORK_IDLE.min(poll_timeout), woken)
                .await
                .is_err()
            {
                break;
            }
        }
        Ok(None)
    }

    async fn ack_work_item(
        &self,
        token: &str,
        completion: Option<WorkItem>,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.ack_work_item(token, completion.clone()))
            .await?;
        self.turns.notify_one();
        Ok(())
    }

    async fn renew_work_item_lock(
        &self,
        token: &str,
        extend_for: Duration,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.renew_work_item_lock(token, extend_for))
            .await
    }

    async fn renew_session_lock(
        &self,
        owner_ids: &[&str],
        extend_for: Duration,
        idle_timeout: Duration,
    ) -> Result<usize, ProviderError> {
        self.in_turn(|| {
            self.inner
                .renew_session_lock(owner_ids, extend_for, idle_timeout)
        })
        .await
    }

    async fn cleanup_orphaned_sessions(
        &self,
        idle_timeout: Duration,
    ) -> Result<usize, ProviderError> {
        self.in_turn(|| self.inner.cleanup_orphaned_sessions(idle_timeout))
            .await
    }

    async fn abandon_work_item(
        &self,
        token: &str,
        delay: Option<Duration>,
        ignore_attempt: bool,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.abandon_work_item(token, delay, ignore_attempt))
            .await
    }

    async fn renew_orchestration_item_lock(
        &self,
        token: &str,
        extend_for: Duration,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.renew_orchestration_item_lock(token, extend_for))
            .await
    }

    async fn enqueue_for_orchestrator(
        &self,
        item: WorkItem,
        delay: Option<Duration>,
    ) -> Result<(), ProviderError> {
        self.in_turn(|| self.inner.enqueue_for_orchestrator(item.clone(), delay))
            .await?;
        self.turns.notify_one();
        Ok(())
    }

    fn as_management_capability(&self) -> Option<&dyn ProviderAdmin> {
        // Its writing calls are made under `in_turn` by the engine.
        self.inner.as_management_capability()
    }

    async fn get_custom_status(
        &self,
        instance: &str,
        last_seen_version: u64,
    ) -> Result<Option<(Option<String>, u64)>, ProviderError> {
        self.inner
            .get_custom_status(instance, last_seen_version)
            .await
    }

    async fn get_kv_value(
        &self,
        instance: &str,
        key: &str,
    ) -> Result<Option<String>, ProviderError> {
        self.inner.get_kv_value(instance, key).await
    }

    async fn get_kv_all_values(
        &self,
        instance: &str,
    ) -> Result<HashMap<String, String>, ProviderError> {
        self.inner.get_kv_all_values(instance).await
    }

    async fn get_instance_stats(
        &self,
        instance: &str,
    ) -> Result<Option<SystemStats>, ProviderError> {
        self.inner.get_instance_stats(instance).await
    }
}

fn is_start(event: &Event) -> bool {
    matches!(event.kind, EventKind::OrchestrationStarted { .. })
}
