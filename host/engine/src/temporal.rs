//! The workflow engine of several hosts: a Temporal server that all hosts of an installation share, each as one of
//! its workers.
//!
//! It uses the core of Temporal's Rust SDK and not the SDK itself. The SDK's workflow contexts are tied to one thread
//! and to a Rust type per workflow, while the port's workflows are values of a registry that move between threads;
//! core provides plain activations, as [`host_workflows::Control`] needs. A workflow's type is its kind; the version
//! of its code is in its input, so that hosts of several releases share a task queue and each runs the versions it
//! has.

mod code;
mod config;
mod connect;
mod control;
mod desk;
mod payload;
mod reads;
mod run;
mod settings;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use host_workflows::{
    Activities, Engine, EngineError, HistoryEntry, Outcome, Page, PageRequest, Started, Status,
    StatusKind, Workflows, exchange,
};
use temporalio_client::tonic::{Code as RpcCode, IntoRequest, Status as RpcStatus};
use temporalio_common::protos::temporal::api::common::v1::{Memo, Payloads, WorkflowType};
use temporalio_common::protos::temporal::api::enums::v1::{
    WorkflowIdConflictPolicy, WorkflowIdReusePolicy,
};
use temporalio_common::protos::temporal::api::taskqueue::v1::TaskQueue;
use temporalio_common::protos::temporal::api::workflowservice::v1::{
    DeleteWorkflowExecutionRequest, RequestCancelWorkflowExecutionRequest,
    SignalWorkflowExecutionRequest, StartWorkflowExecutionRequest,
};
use temporalio_common::worker::WorkerTaskTypes;
use temporalio_sdk_core::{
    CoreRuntime, RuntimeOptions, WorkerConfig, WorkerVersioningStrategy, init_worker,
};
use uuid::Uuid;

use self::code::Code;
use self::payload::{Envelope, encoded, memo, payload, span};
use self::reads::{Reader, execution};
use self::worker::Worker;
use crate::given::{check_name, missing_activity, unavailable};

pub use self::settings::{StartError, TemporalOptions, TlsOptions};

/// How many workflows a host keeps in memory between turns; it replays others from their history.
const CACHED_WORKFLOWS: usize = 1_000;
/// The maximum of concurrent turns of a host.
const TURNS_MAX: usize = 100;
/// The maximum page size of a list.
const PAGE_MAX: usize = 500;
/// The time limit of a request, including retries.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// The pause before the host asks for a workflow's end again when Temporal is unavailable.
const RESULT_PAUSE: Duration = Duration::from_millis(500);
/// How long Temporal may take to delete a workflow.
const FORGET_MAX: Duration = Duration::from_secs(90);
/// How often the host polls for that deletion.
const FORGET_POLL: Duration = Duration::from_millis(50);
/// Temporal's message about a workflow that is between two executions (`ErrWorkflowClosing` of its server).
const CLOSING: &str = "workflow is closing";
/// The pause before a message is sent again to such a workflow.
const CLOSING_PAUSE: Duration = Duration::from_millis(50);

/// The running engine.
pub struct TemporalEngine {
    reader: Reader,
    code: Arc<Code>,
    worker: Worker,
    identity: String,
    /// Core keeps its telemetry here as long as the worker lives.
    _runtime: CoreRuntime,
}

impl TemporalEngine {
    /// Connects, checks the namespace, and starts the worker.
    pub async fn start(
        options: TemporalOptions,
        workflows: Workflows,
        activities: Activities,
    ) -> Result<Self, StartError> {
        if let Some((kind, activity)) = missing_activity(&workflows, &activities) {
            return Err(StartError::MissingActivity {
                kind: kind.to_owned(),
                activity: activity.to_owned(),
            });
        }
        let identity = format!("bellwether-{}", Uuid::now_v7());
        let connection = connect::connect(&options, &identity).await?;
        connect::namespace(&connection, &options).await?;
        let runtime = CoreRuntime::new_assume_tokio(RuntimeOptions::default());
        let runtime = runtime.map_err(StartError::Worker)?;
        let config = worker_config(&options);
        let config = config.map_err(|error| StartError::Worker(anyhow::anyhow!(error)))?;
        let core = init_worker(&runtime, config, connection.clone()).map_err(StartError::Worker)?;
        let validated = core.validate().await;
        validated.map_err(|error| StartError::Worker(error.into()))?;
        let code = Arc::new(Code {
            workflows,
            task_queue: options.task_queue.clone(),
            namespace: options.namespace.clone(),
            heartbeat_limit: options.heartbeat_limit,
            turn_limit: options.turn_limit,
        });
        let every = options.heartbeat_every;
        Ok(Self {
            worker: Worker::start(core, Arc::clone(&code), activities, every),
            code,
            reader: Reader {
                connection,
                namespace: options.namespace,
                task_queue: options.task_queue,
            },
            identity,
            _runtime: runtime,
        })
    }

    /// Stops polling, waits at most `grace` for running activities and returns the unfinished ones, which another
    /// host resumes at once.
    pub async fn shutdown(&self, grace: Duration) {
        self.worker.shutdown(grace).await;
    }

    /// Sends a workflow a message; an ended workflow accepts none.
    async fn tell<T>(
        &self,
        id: &str,
        operation: &'static str,
        request: impl Future<Output = Result<T, RpcStatus>> + Send,
    ) -> Result<(), EngineError> {
        let told = async {
            match request.await {
                Ok(_) => Ok(true),
                Err(status) if status.code() == RpcCode::NotFound => Ok(false),
                Err(status) => Err(status),
            }
        };
        if within(operation, told).await? {
            return Ok(());
        }
        match self.status(id).await? {
            None => Err(EngineError::NotFound { id: id.to_owned() }),
            Some(_) => Err(EngineError::Ended { id: id.to_owned() }),
        }
    }

    fn namespace(&self) -> String {
        self.reader.namespace.clone()
    }
}

fn worker_config(options: &TemporalOptions) -> Result<WorkerConfig, String> {
    WorkerConfig::builder()
        .namespace(options.namespace.clone())
        .task_queue(options.task_queue.clone())
        .task_types(WorkerTaskTypes {
            enable_workflows: true,
            enable_local_activities: false,
            enable_remote_activities: true,
            enable_nexus: false,
        })
        .max_cached_workflows(CACHED_WORKFLOWS)
        .max_outstanding_workflow_tasks(TURNS_MAX)
        .max_outstanding_activities(options.worker_concurrency)
        // The turn limit covers both ways to lose a host: with a turn in progress, and with workflows in its memory.
        .sticky_queue_schedule_to_start_timeout(options.turn_limit / 2)
        .max_heartbeat_throttle_interval(options.heartbeat_every)
        .ignore_evicts_on_shutdown(true)
        .versioning_strategy(WorkerVersioningStrategy::None {
            build_id: env!("CARGO_PKG_VERSION").to_owned(),
        })
        .build()
}

/// Sends one request within its time limit.
async fn within<T>(
    operation: &'static str,
    request: impl Future<Output = Result<T, RpcStatus>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(REQUEST_MAX, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(unavailable(operation, &status.message())),
        Err(_) => Err(unavailable(operation, &"Temporal does not answer")),
    }
}

#[async_trait]
impl Engine for TemporalEngine {
    async fn start(&self, kind: &str, id: &str, input: &str) -> Result<Started, EngineError> {
        check_name(id)?;
        exchange::decode::<serde_json::Value>(&format!("the input of the workflow `{id}`"), input)?;
        let Some(code) = self.code.workflows.newest(kind) else {
            return Err(EngineError::UnknownKind {
                kind: kind.to_owned(),
            });
        };
        let operation = "start a workflow";
        let envelope = encoded(&Envelope::first(code.version));
        let envelope = envelope.map_err(|error| unavailable(operation, &error))?;
        let wish = StartWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_id: id.to_owned(),
            workflow_type: Some(WorkflowType {
                name: kind.to_owned(),
            }),
            task_queue: Some(TaskQueue {
                name: self.code.task_queue.clone(),
                ..TaskQueue::default()
            }),
            input: Some(Payloads {
                payloads: vec![envelope, payload(input)],
            }),
            workflow_task_timeout: span(self.code.turn_limit),
            identity: self.identity.clone(),
            request_id: Uuid::new_v4().to_string(),
            workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
            workflow_id_conflict_policy: WorkflowIdConflictPolicy::UseExisting.into(),
            memo: Some(Memo {
                fields: memo(code.version, None),
            }),
            ..StartWorkflowExecutionRequest::default()
        };
        let mut service = self.reader.connection.workflow_service();
        let started = async {
            match service.start_workflow_execution(wish.into_request()).await {
                Ok(answer) if answer.get_ref().started => Ok(Started::Started),
                Ok(_) => Ok(Started::Exists),
                Err(status) if status.code() == RpcCode::AlreadyExists => Ok(Started::Exists),
                Err(status) => Err(status),
            }
        };
        within(operation, started).await
    }

    async fn signal(&self, id: &str, mailbox: &str, message: &str) -> Result<(), EngineError> {
        check_name(mailbox)?;
        exchange::decode::<serde_json::Value>(
            &format!("a message of the mailbox `{mailbox}`"),
            message,
        )?;
        let wish = SignalWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(execution(id, "")),
            signal_name: mailbox.to_owned(),
            input: Some(Payloads {
                payloads: vec![payload(message)],
            }),
            identity: self.identity.clone(),
            request_id: Uuid::new_v4().to_string(),
            ..SignalWorkflowExecutionRequest::default()
        };
        let mut service = self.reader.connection.workflow_service();
        let request = async {
            loop {
                let wish = wish.clone().into_request();
                match service.signal_workflow_execution(wish).await {
                    // The workflow is about to continue as a new execution; the request id prevents a duplicate
                    // message.
                    Err(status) if status.message().contains(CLOSING) => {
                        tokio::time::sleep(CLOSING_PAUSE).await;
                    }
                    told => return told,
                }
            }
        };
        self.tell(id, "deliver a message", request).await
    }

    async fn cancel(&self, id: &str, reason: &str) -> Result<(), EngineError> {
        exchange::check("the reason of a cancel", reason)?;
        // Temporal itself accepts a second cancel after the workflow ended.
        match self.status(id).await? {
            Some(status) if status.state == StatusKind::Running => {}
            Some(_) => return Err(EngineError::Ended { id: id.to_owned() }),
            None => return Err(EngineError::NotFound { id: id.to_owned() }),
        }
        let wish = RequestCancelWorkflowExecutionRequest {
            namespace: self.namespace(),
            workflow_execution: Some(execution(id, "")),
            identity: self.identity.clone(),
            request_id: Uuid::new_v4().to_string(),
            reason: reason.to_owned(),
            ..RequestCancelWorkflowExecutionRequest::default()
        };
        let mut service = self.reader.connection.workflow_service();
        let request = service.request_cancel_workflow_execution(wish.into_request());
        self.tell(id, "cancel a workflow", request).await
    }

    async fn status(&self, id: &str) -> Result<Option<Status>, EngineError> {
        within("read a workflow", self.reader.status(id)).await
    }

    async fn result(&self, id: &str, wait: Duration) -> Result<Outcome, EngineError> {
        let ended = async {
            loop {
                match self.reader.end(id).await {
                    Ok(Some(outcome)) => return Ok(outcome),
                    Ok(None) => return Err(EngineError::NotFound { id: id.to_owned() }),
                    Err(status) => {
                        tracing::debug!(workflow.id = id, error = %status, "the host asks for the end of a workflow again");
                    }
                }
                tokio::time::sleep(RESULT_PAUSE).await;
            }
        };
        tokio::time::timeout(wait, ended)
            .await
            .unwrap_or(Ok(Outcome::Running))
    }

    async fn list(&self, page: &PageRequest) -> Result<Page, EngineError> {
        let limit = page.limit.clamp(1, PAGE_MAX);
        let (items, is_cut) = within("list workflows", self.reader.list(page, limit)).await?;
        let next = items.last().filter(|_| is_cut).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, EngineError> {
        let (entries, run_ids) = within("read a history", self.reader.history(id)).await?;
        if run_ids.is_empty() {
            return Err(EngineError::NotFound { id: id.to_owned() });
        }
        Ok(entries)
    }

    async fn delete(&self, id: &str) -> Result<(), EngineError> {
        match self.status(id).await? {
            None => return Ok(()),
            Some(status) if status.state == StatusKind::Running => {
                return Err(EngineError::StillRunning { id: id.to_owned() });
            }
            Some(_) => {}
        }
        let operation = "forget a workflow";
        let (_, run_ids) = within(operation, self.reader.history(id)).await?;
        for run_id in run_ids {
            // By its run id: a workflow that started under the same id meanwhile stays.
            let wish = DeleteWorkflowExecutionRequest {
                namespace: self.namespace(),
                workflow_execution: Some(execution(id, &run_id)),
            };
            let mut service = self.reader.connection.workflow_service();
            let deleted = async {
                match service.delete_workflow_execution(wish.into_request()).await {
                    Err(status) if status.code() != RpcCode::NotFound => Err(status),
                    _ => Ok(()),
                }
            };
            within(operation, deleted).await?;
        }
        let forgotten = async {
            while self.status(id).await?.is_some() {
                tokio::time::sleep(FORGET_POLL).await;
            }
            Ok(())
        };
        let forgotten = tokio::time::timeout(FORGET_MAX, forgotten).await;
        forgotten.unwrap_or_else(|_| {
            Err(unavailable(
                operation,
                &"Temporal did not delete the workflow in time",
            ))
        })
    }
}
