//! The calls of duroxide's `Provider`: writing calls queue for their turn, reading calls pass through.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::providers::{
    DispatcherCapabilityFilter, ExecutionMetadata, OrchestrationItem, Provider, ProviderAdmin,
    ProviderError, ScheduledActivityIdentifier, SessionFetchConfig, TagFilter, WorkItem,
};
use duroxide::{Event, EventKind, SystemStats};

use super::provider::SerialProvider;

/// How long a fetch of workflow messages waits for a wake-up; due timers send none.
const TURN_IDLE: Duration = Duration::from_millis(100);
/// How long a fetch of activities waits for a wake-up; released locks send none.
const WORK_IDLE: Duration = Duration::from_secs(1);

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
        // The engine makes its writing calls under `in_turn`.
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
