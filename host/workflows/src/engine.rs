//! The port outside workflows: what the host requires of a workflow engine.
//!
//! The trait is object safe and uses JSON text, so that callers hold an `Arc<dyn Engine>`.

use std::time::Duration;

use async_trait::async_trait;
use host_domain::time::Millis;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::exchange::{ExchangeError, encode};
use crate::workflow::Workflow;

/// Runs workflows durably.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Starts a workflow. An id stays taken as long as the engine knows its workflow, even after its end.
    async fn start(&self, kind: &str, id: &str, input: &str) -> Result<Started, EngineError>;

    /// Puts a message of JSON text into a mailbox of a workflow that has not ended.
    async fn signal(&self, id: &str, mailbox: &str, message: &str) -> Result<(), EngineError>;

    /// Requests cancellation: the workflow undoes its work and fails with the code `cancelled`.
    async fn cancel(&self, id: &str, reason: &str) -> Result<(), EngineError>;

    /// The status of a workflow; `None` when the id is unknown.
    async fn status(&self, id: &str) -> Result<Option<Status>, EngineError>;

    /// Waits at most `wait` for the end of a workflow.
    async fn result(&self, id: &str, wait: Duration) -> Result<Outcome, EngineError>;

    /// Workflows in the order of their ids.
    async fn list(&self, page: &PageRequest) -> Result<Page, EngineError>;

    /// The history of a workflow, oldest first, over all executions.
    async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, EngineError>;

    /// Deletes an ended workflow; an unknown id is not an error.
    async fn delete(&self, id: &str) -> Result<(), EngineError>;
}

/// Starts a workflow with a typed input.
pub async fn start<W: Workflow>(
    engine: &dyn Engine,
    id: &str,
    input: &W::Input,
) -> Result<Started, EngineError> {
    let input = encode(&format!("the input of the workflow `{id}`"), input)?;
    engine.start(W::KIND, id, &input).await
}

/// The result of [`Engine::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The engine started the workflow.
    Started,
    /// A workflow with this id exists, so the engine did nothing.
    Exists,
}

/// The status of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The workflow's id.
    pub id: String,
    /// The workflow's kind.
    pub kind: String,
    /// The version of its code.
    pub version: String,
    /// Whether and how the workflow ended.
    pub state: StatusKind,
    /// The progress that the workflow last reported, as JSON text.
    pub progress: Option<String>,
    /// When it was started.
    pub started_at: Millis,
    /// When the engine last recorded an event of it.
    pub updated_at: Millis,
}

/// Whether and how a workflow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusKind {
    /// The workflow has not ended.
    Running,
    /// The workflow ended with a result.
    Completed,
    /// The workflow ended with a failure.
    Failed,
}

/// The result of [`Engine::result`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The workflow has not ended.
    Running,
    /// Ended with this JSON text.
    Completed(String),
    /// Ended with this failure.
    Failed(Failure),
}

/// A page of the list of workflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only workflows in this state.
    pub state: Option<StatusKind>,
    /// The last id of the previous page.
    pub after: Option<String>,
    /// The maximum number of items; engines return at most 500.
    pub limit: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            state: None,
            after: None,
            limit: 100,
        }
    }
}

/// One page of workflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The workflows.
    pub items: Vec<Status>,
    /// The value of `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// One event of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The execution in which it happened, from 1.
    pub execution: u64,
    /// Its place in that execution.
    pub sequence: u64,
    /// When it happened.
    pub at: Millis,
    /// The engine's name of the event, such as `ActivityScheduled`.
    pub event: String,
    /// The details as JSON text.
    pub detail: String,
}

/// Why an engine failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No such workflow.
    #[error("the workflow `{id}` does not exist; `workflow list` shows those that do")]
    NotFound {
        /// Its id.
        id: String,
    },
    /// The workflow has ended already.
    #[error("the workflow `{id}` has ended and takes no messages")]
    Ended {
        /// Its id.
        id: String,
    },
    /// The workflow has not ended yet.
    #[error("the workflow `{id}` still runs; cancel it and wait for its end first")]
    StillRunning {
        /// Its id.
        id: String,
    },
    /// No code of that kind is registered.
    #[error(
        "this host has no workflow of the kind `{kind}`; this host may be older than the caller"
    )]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// An invalid id or mailbox name.
    #[error(
        "`{id}` is not a valid name of a workflow or a mailbox; use 1 to 200 letters, digits, `-`, `_`, `:`, `.`"
    )]
    BadName {
        /// The name.
        id: String,
    },
    /// A value that can't be exchanged.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The engine is unavailable.
    #[error("the workflow engine could not {operation}: {message}; retrying is safe")]
    Unavailable {
        /// The operation that failed.
        operation: &'static str,
        /// The engine's message.
        message: String,
    },
}
