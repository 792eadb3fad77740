//! The workflow engine of a single host: duroxide inside this process, on its own SQLite file.
//!
//! This module and its submodules work around faults of duroxide 0.1.32:
//! - `provider` serialises and retries writing calls
//! - workflows are registered by version
//! - `tries` enforces time limits instead of durable timers
//! - a message counts as poison only after 1,000 fetches
//! - messages use mailboxes only
//! - [`DuroxideEngine::prune`] deletes ended workflows
//! - all values are JSON text
//!
//! An exclusive lock on a file beside the engine's file prevents a second host from opening it. Holding that lock
//! also proves that locks inside the file belong to a killed host, so startup releases them.

mod calls;
mod control;
mod engine_file;
mod lock;
mod provider;
mod reads;
mod setup;
mod work;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use duroxide::runtime::Runtime;
use duroxide::{Client, ClientError, InstanceFilter, PruneOptions};
use host_domain::time::{Clock, Millis};
use host_workflows::{
    Activities, Engine, EngineError, HistoryEntry, Outcome, Page, PageRequest, Started, Status,
    StatusKind, Workflows, exchange,
};
use tokio::sync::Mutex;

use self::control::CANCEL_MAILBOX;
use self::provider::SerialProvider;
use self::setup::{activity_registry, check_activities, open, runtime_options, workflow_registry};
use crate::given::{check_name, unavailable};

pub use self::lock::EngineLock;
pub use self::setup::{DuroxideOptions, StartError};

/// How long startup waits until the messages that a killed host left were fetched.
const SETTLE_MAX: Duration = Duration::from_secs(5);
/// The longest pause between two polls for the end of a workflow.
const RESULT_POLL: Duration = Duration::from_secs(1);
/// How many workflows one prune statement deletes.
const PRUNE_BATCH: u32 = 200;

/// The running engine.
pub struct DuroxideEngine {
    runtime: Arc<Runtime>,
    provider: Arc<SerialProvider>,
    client: Client,
    workflows: Workflows,
    clock: Arc<dyn Clock>,
    /// Held while a start checks for the id, so that one of two concurrent starts reports that the workflow exists.
    starting: Mutex<()>,
    /// Released at shutdown.
    lock: Mutex<Option<EngineLock>>,
}

impl DuroxideEngine {
    /// Opens the locked file and resumes every unfinished workflow in it.
    pub async fn start_locked(
        lock: EngineLock,
        workflows: Workflows,
        activities: Activities,
        options: DuroxideOptions,
    ) -> Result<Self, StartError> {
        check_activities(&workflows, &activities)?;
        let provider = Arc::new(SerialProvider::new(open(lock.engine()).await?));
        let runtime = Runtime::start_with_options(
            Arc::clone(&provider) as Arc<dyn duroxide::providers::Provider>,
            activity_registry(&activities, options.cancel_poll),
            workflow_registry(&workflows),
            runtime_options(&options),
        )
        .await;
        provider.settled(SETTLE_MAX).await;
        Ok(Self {
            runtime,
            client: Client::new(Arc::clone(&provider) as Arc<dyn duroxide::providers::Provider>),
            provider,
            workflows,
            clock: options.clock,
            starting: Mutex::new(()),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Stops fetching work, waits at most `grace` for running activities, and releases the file. The next start
    /// resumes what did not end.
    pub async fn shutdown(&self, grace: Duration) {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        Arc::clone(&self.runtime).shutdown(Some(grace_ms)).await;
        drop(self.lock.lock().await.take());
    }

    /// Deletes workflows that ended more than `older_than` ago, and the past executions of running ones; returns the
    /// number of deleted workflows. The host calls it every night, because duroxide never deletes anything.
    pub async fn prune(&self, older_than: Duration, now: Millis) -> Result<u64, EngineError> {
        let before = u64::try_from(now.minus(older_than).0).unwrap_or(0);
        let mut forgotten = 0;
        loop {
            let filter = InstanceFilter {
                completed_before: Some(before),
                limit: Some(PRUNE_BATCH),
                ..InstanceFilter::default()
            };
            let batch = self
                .provider
                .in_turn(|| Box::pin(self.client.delete_instance_bulk(filter.clone())));
            let batch = batch
                .await
                .map_err(|error| unavailable("prune workflows", &error))?;
            forgotten += batch.instances_deleted;
            if batch.instances_deleted == 0 {
                break;
            }
        }
        let keep = PruneOptions {
            keep_last: Some(1),
            completed_before: Some(before),
        };
        self.provider
            .in_turn(|| {
                let all = InstanceFilter::default();
                Box::pin(self.client.prune_executions_bulk(all, keep.clone()))
            })
            .await
            .map_err(|error| unavailable("prune past executions", &error))?;
        Ok(forgotten)
    }

    /// How many calls met a locked database or another transient error since startup.
    pub fn troubles(&self) -> u64 {
        self.provider.troubles()
    }

    /// How many items wait in the engine's queues, including timers.
    pub async fn queued(&self) -> Result<usize, EngineError> {
        let depths = self.client.get_queue_depths().await;
        let depths = depths.map_err(|error| unavailable("count its queues", &error))?;
        Ok(depths.orchestrator_queue + depths.worker_queue)
    }

    /// Updates the metric of the engine's queues.
    pub async fn measure(&self) -> Result<(), EngineError> {
        crate::metrics::queued(self.queued().await?);
        Ok(())
    }

    async fn required(&self, id: &str) -> Result<Status, EngineError> {
        match self.status(id).await? {
            Some(status) => Ok(status),
            None => Err(EngineError::NotFound { id: id.to_owned() }),
        }
    }

    async fn tell(&self, id: &str, mailbox: &str, message: &str) -> Result<(), EngineError> {
        exchange::check(&format!("a message of the mailbox `{mailbox}`"), message)?;
        if self.required(id).await?.state != StatusKind::Running {
            return Err(EngineError::Ended { id: id.to_owned() });
        }
        let told = self.client.enqueue_event(id, mailbox, message).await;
        told.map_err(|error| unavailable("deliver a message", &error))
    }
}

#[async_trait]
impl Engine for DuroxideEngine {
    async fn start(&self, kind: &str, id: &str, input: &str) -> Result<Started, EngineError> {
        check_name(id)?;
        exchange::decode::<serde_json::Value>(&format!("the input of the workflow `{id}`"), input)?;
        let Some(code) = self.workflows.newest(kind) else {
            return Err(EngineError::UnknownKind {
                kind: kind.to_owned(),
            });
        };
        let _one_at_a_time = self.starting.lock().await;
        if self.status(id).await?.is_some() {
            return Ok(Started::Exists);
        }
        let now = self.clock.now();
        self.provider.note_starting(Status {
            id: id.to_owned(),
            kind: kind.to_owned(),
            version: code.version.to_owned(),
            state: StatusKind::Running,
            progress: None,
            started_at: now,
            updated_at: now,
        });
        let queued = self
            .client
            .start_orchestration_versioned(id, kind, code.version, input)
            .await;
        if let Err(error) = queued {
            self.provider.forget_starting(id);
            return Err(unavailable("start a workflow", &error));
        }
        Ok(Started::Started)
    }

    async fn signal(&self, id: &str, mailbox: &str, message: &str) -> Result<(), EngineError> {
        check_name(mailbox)?;
        if mailbox == CANCEL_MAILBOX {
            return Err(EngineError::BadName {
                id: mailbox.to_owned(),
            });
        }
        self.tell(id, mailbox, message).await
    }

    async fn cancel(&self, id: &str, reason: &str) -> Result<(), EngineError> {
        // A message, because duroxide's own cancel ends a workflow at once without an undo.
        self.tell(id, CANCEL_MAILBOX, reason).await
    }

    async fn status(&self, id: &str) -> Result<Option<Status>, EngineError> {
        // This record is read first, because it is removed only after the history exists.
        let starting = self.provider.starting_status(id);
        let status = reads::status(&self.provider, id).await;
        let status = status.map_err(|error| unavailable("read a workflow", &error))?;
        Ok(status.or(starting))
    }

    async fn result(&self, id: &str, wait: Duration) -> Result<Outcome, EngineError> {
        let ended = async {
            loop {
                let changed = self.provider.ended();
                match reads::outcome(&self.provider, id).await {
                    Ok(Some(Outcome::Running)) => {}
                    Ok(Some(outcome)) => return Ok(outcome),
                    Ok(None) => drop(self.required(id).await?),
                    Err(error) => return Err(unavailable("read a result", &error)),
                }
                // A missed wake-up only delays the result until the next poll.
                drop(tokio::time::timeout(RESULT_POLL, changed).await);
            }
        };
        tokio::time::timeout(wait, ended)
            .await
            .unwrap_or(Ok(Outcome::Running))
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, EngineError> {
        reads::list(&self.provider, page)
            .await
            .map_err(|error| unavailable("list workflows", &error))
    }

    async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, EngineError> {
        self.required(id).await?;
        reads::history(&self.provider, id)
            .await
            .map_err(|error| unavailable("read a history", &error))
    }

    async fn delete(&self, id: &str) -> Result<(), EngineError> {
        if self.provider.starting_status(id).is_some() {
            return Err(EngineError::StillRunning { id: id.to_owned() });
        }
        let deleted = self
            .provider
            .in_turn(|| Box::pin(self.client.delete_instance(id, false)));
        match deleted.await {
            Ok(_) | Err(ClientError::InstanceNotFound { .. }) => Ok(()),
            Err(ClientError::InstanceStillRunning { .. }) => {
                Err(EngineError::StillRunning { id: id.to_owned() })
            }
            Err(error) => match self.status(id).await? {
                None => Ok(()),
                Some(status) if status.state == StatusKind::Running => {
                    Err(EngineError::StillRunning { id: id.to_owned() })
                }
                Some(_) => Err(unavailable("forget a workflow", &error)),
            },
        }
    }
}
