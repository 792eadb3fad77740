//! The port outside workflows: what the rest of the host asks of an engine.
//!
//! Object safe and in JSON text, so that `Arc<dyn Engine>` is all that anybody holds.

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
    /// Starts a workflow. An id is taken for as long as its workflow is known, ended or not.
    async fn start(&self, kind: &str, id: &str, input: &str) -> Result<Started, EngineError>;

    /// Puts a message of JSON text into a mailbox of a workflow that has not ended.
    async fn signal(&self, id: &str, mailbox: &str, message: &str) -> Result<(), EngineError>;

    /// Asks a workflow to stop: it undoes what it did and ends as failed with the code `cancelled`.
    async fn cancel(&self, id: &str, reason: &str) -> Result<(), EngineError>;

    /// What is known about a workflow; `None` when the id is unknown.
    async fn status(&self, id: &str) -> Result<Option<Status>, EngineError>;

    /// Waits for the end of a workflow, at most for `wait`.
    async fn result(&self, id: &str, wait: Duration) -> Result<Outcome, EngineError>;

    /// Workflows in the order of their ids.
    async fn list(&self, page: &PageRequest) -> Result<Page, EngineError>;

    /// What happened in a workflow, oldest first, all its executions.
    async fn history(&self, id: &str) -> Result<Vec<HistoryEntry>, EngineError>;

    /// Forgets a workflow that has ended; forgetting an unknown one is done already.
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

/// What [`Engine::start`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The workflow is on its way.
    Started,
    /// The id is taken: it is the same workflow, and nothing was done.
    Exists,
}

/// How a workflow stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The workflow's id.
    pub id: String,
    /// The workflow's kind.
    pub kind: String,
    /// The version of its code.
    pub version: String,
    /// Whether it ended, and how.
    pub state: StatusKind,
    /// What it last showed by `status`, as JSON text.
    pub progress: Option<String>,
    /// When it was started.
    pub started_at: Millis,
    /// When the engine last wrote anything about it.
    pub updated_at: Millis,
}

/// Whether a workflow ended, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusKind {
    /// Not yet.
    Running,
    /// With a result.
    Completed,
    /// With a failure.
    Failed,
}

/// What [`Engine::result`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not ended yet.
    Running,
    /// Ended with this JSON text.
    Completed(String),
    /// Ended with this failure.
    Failed(Failure),
}

/// Which part of the list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only workflows in this state.
    pub state: Option<StatusKind>,
    /// The last id of the page before.
    pub after: Option<String>,
    /// At most so many; engines give at most 500.
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

/// A part of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The workflows.
    pub items: Vec<Status>,
    /// What to ask after next; `None` at the end.
    pub next: Option<String>,
}

/// One thing that happened in a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The execution in which it happened, from 1.
    pub execution: u64,
    /// Its place in that execution.
    pub sequence: u64,
    /// When.
    pub at: Millis,
    /// What, in the engine's words, such as `ActivityScheduled`.
    pub event: String,
    /// The details as JSON text.
    pub detail: String,
}

/// Why an engine could not do what it was asked.
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
    #[error("this host has no workflow of the kind `{kind}`; is it older than who asks?")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// An id or a mailbox that an engine can't take.
    #[error(
        "`{id}` can't name a workflow or a mailbox: use 1 to 200 letters, digits, `-`, `_`, `:`, `.`"
    )]
    BadName {
        /// The name.
        id: String,
    },
    /// A value that can't be exchanged.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// The engine itself is in trouble.
    #[error("the workflow engine could not {operation}: {message}; it is safe to ask again")]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// What the engine says.
        message: String,
    },
}
