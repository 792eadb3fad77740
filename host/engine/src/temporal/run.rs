//! One workflow in this worker's memory: each activation fills its desk, then its code is polled once.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use host_workflows::{ActivityError, Failure, Flow};
use serde_json::value::RawValue;
use temporalio_common::protos::coresdk::activity_result::activity_resolution::Status as TryStatus;
use temporalio_common::protos::coresdk::activity_result::ActivityResolution;
use temporalio_common::protos::coresdk::child_workflow::ChildWorkflowResult;
use temporalio_common::protos::coresdk::child_workflow::child_workflow_result::Status as ChildStatus;
use temporalio_common::protos::coresdk::workflow_activation::resolve_child_workflow_execution_start::Status as ChildStart;
use temporalio_common::protos::coresdk::workflow_activation::workflow_activation_job::Variant as Job;
use temporalio_common::protos::coresdk::workflow_activation::{
    InitializeWorkflow, ResolveChildWorkflowExecutionStart,
};
use temporalio_common::protos::coresdk::workflow_commands::workflow_command::Variant as Command;
use temporalio_common::protos::coresdk::workflow_commands::{
    CompleteWorkflowExecution, ContinueAsNewWorkflowExecution, FailWorkflowExecution, QueryResult,
    UpdateResponse, query_result, update_response,
};

use super::code::Code;
use super::control::TemporalControl;
use super::desk::{Answer, SharedDesk, locked};
use super::payload::{self, Envelope, payload};

/// The maximum size of unread messages when a workflow continues as a new execution: Temporal rejects inputs above 2
/// MiB.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Why a turn fails. Temporal offers it again, also to other hosts, which may have the workflow's code.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    /// The workflow has no data of Bellwether.
    #[error(
        "the workflow `{id}` was not started by Bellwether; set `workflows.temporal.task_queue` to a queue that no other program uses"
    )]
    Foreign {
        /// The workflow's id.
        id: String,
    },
    /// A newer or a much older host started it.
    #[error(
        "this host has no version {version} of the workflow `{kind}`; run hosts of the release that started the workflow until the workflow has ended"
    )]
    UnknownVersion {
        /// The workflow's kind.
        kind: String,
        /// The version of its code.
        version: String,
    },
    /// The workflow's code panicked.
    #[error("the code of the workflow `{kind}` panicked")]
    Panicked {
        /// The workflow's kind.
        kind: String,
    },
}

/// One workflow in memory.
pub(super) struct Run {
    kind: String,
    envelope: Envelope,
    desk: SharedDesk,
    code: Arc<Code>,
    /// `None` after the workflow has ended.
    body: Option<BoxFuture<'static, Result<String, Failure>>>,
}

impl Run {
    /// A workflow that starts or is replayed.
    pub(super) fn begin(code: &Arc<Code>, init: InitializeWorkflow) -> Result<Self, TurnError> {
        let kind = init.workflow_type;
        let envelope: Option<Envelope> = init.arguments.first().and_then(payload::decoded);
        let Some(mut envelope) = envelope else {
            return Err(TurnError::Foreign {
                id: init.workflow_id,
            });
        };
        let mut known = code.workflows.iter();
        let known = known.find(|known| known.kind == kind && known.version == envelope.version);
        let Some(known) = known else {
            return Err(TurnError::UnknownVersion {
                kind,
                version: envelope.version,
            });
        };
        let desk = SharedDesk::default();
        for (mailbox, messages) in std::mem::take(&mut envelope.unread) {
            let messages = messages.into_iter().map(|message| message.get().to_owned());
            locked(&desk).mailboxes.insert(mailbox, messages.collect());
        }
        let control = TemporalControl {
            id: init.workflow_id,
            execution: envelope.execution,
            desk: Arc::clone(&desk),
            code: Arc::clone(code),
        };
        let body = (known.run)(
            Flow::new(Arc::new(control)),
            payload::text(init.arguments.get(1)),
        );
        Ok(Self {
            kind,
            envelope,
            desk,
            code: Arc::clone(code),
            body: Some(body),
        })
    }

    /// Stores a job on the desk and answers queries and updates, which none of our workflows supports.
    pub(super) fn take(&self, job: Job) {
        let mut desk = locked(&self.desk);
        match job {
            Job::FireTimer(timer) => desk.answer(timer.seq, Answer::Timer),
            Job::ResolveActivity(resolved) => {
                desk.answer(resolved.seq, Answer::Try(try_outcome(resolved.result)));
            }
            Job::ResolveChildWorkflowExecutionStart(resolved) => {
                if let Some(failure) = child_refused(&resolved) {
                    desk.answer(resolved.seq, Answer::Child(Err(failure)));
                }
            }
            Job::ResolveChildWorkflowExecution(resolved) => {
                desk.answer(resolved.seq, Answer::Child(child_outcome(resolved.result)));
            }
            Job::SignalWorkflow(signal) => {
                let message = payload::text(signal.input.first());
                let mailbox = desk.mailboxes.entry(signal.signal_name).or_default();
                mailbox.push_back(message);
            }
            Job::CancelWorkflow(cancel) => {
                desk.cancelled.get_or_insert(cancel.reason);
            }
            Job::QueryWorkflow(query) => {
                desk.commands.push(Command::RespondToQuery(QueryResult {
                    query_id: query.query_id,
                    variant: Some(query_result::Variant::Failed(
                        "this workflow answers no queries; its memo shows its progress".into(),
                    )),
                }));
            }
            Job::DoUpdate(update) => desk.commands.push(Command::UpdateResponse(UpdateResponse {
                protocol_instance_id: update.protocol_instance_id,
                response: Some(update_response::Response::Rejected(
                    "this workflow takes signals and no updates".into(),
                )),
            })),
            // Our workflows never request these jobs, or do not need them.
            Job::InitializeWorkflow(_)
            | Job::UpdateRandomSeed(_)
            | Job::NotifyHasPatch(_)
            | Job::ResolveSignalExternalWorkflow(_)
            | Job::ResolveRequestCancelExternalWorkflow(_)
            | Job::ResolveNexusOperationStart(_)
            | Job::ResolveNexusOperation(_)
            | Job::RemoveFromCache(_) => {}
        }
    }

    /// Polls the code, and returns its commands for Temporal.
    pub(super) fn go_on(&mut self) -> Result<Vec<Command>, TurnError> {
        let Some(body) = self.body.as_mut() else {
            return Ok(std::mem::take(&mut locked(&self.desk).commands));
        };
        // Nothing wakes it: it is polled after the next activation anyway.
        let mut cx = Context::from_waker(Waker::noop());
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(&mut cx)));
        let polled = polled.map_err(|_| TurnError::Panicked {
            kind: self.kind.clone(),
        })?;
        let (mut commands, again) = {
            let mut desk = locked(&self.desk);
            (std::mem::take(&mut desk.commands), desk.again.take())
        };
        match (polled, again) {
            (Poll::Ready(outcome), _) => commands.push(ended(outcome)),
            (Poll::Pending, Some(input)) => commands.push(self.anew(input)),
            (Poll::Pending, None) => return Ok(commands),
        }
        // Whatever its futures withdraw from here on is irrelevant.
        self.body = None;
        locked(&self.desk).commands.clear();
        Ok(commands)
    }

    /// The next execution, with the unread messages.
    fn anew(&self, input: String) -> Command {
        let mut desk = locked(&self.desk);
        let unread = match unread(std::mem::take(&mut desk.mailboxes)) {
            Ok(unread) => unread,
            Err(failure) => return ended(Err(failure)),
        };
        let envelope = Envelope {
            version: self.envelope.version.clone(),
            execution: self.envelope.execution + 1,
            unread,
        };
        let envelope = match payload::encoded(&envelope) {
            Ok(envelope) => envelope,
            Err(error) => return ended(Err(Failure::engine(error.to_string()))),
        };
        Command::ContinueAsNewWorkflowExecution(ContinueAsNewWorkflowExecution {
            workflow_type: self.kind.clone(),
            task_queue: self.code.task_queue.clone(),
            arguments: vec![envelope, payload(input)],
            workflow_task_timeout: payload::span(self.code.turn_limit),
            memo: payload::memo(&self.envelope.version, desk.progress.as_deref()),
            ..ContinueAsNewWorkflowExecution::default()
        })
    }
}

fn ended(outcome: Result<String, Failure>) -> Command {
    match outcome {
        Ok(output) => Command::CompleteWorkflowExecution(CompleteWorkflowExecution {
            result: Some(payload(output)),
        }),
        Err(failure) => Command::FailWorkflowExecution(FailWorkflowExecution {
            failure: Some(payload::failure(&failure)),
        }),
    }
}

/// Unread messages as input of the next execution.
fn unread(
    mailboxes: BTreeMap<String, VecDeque<String>>,
) -> Result<BTreeMap<String, Vec<Box<RawValue>>>, Failure> {
    let bytes: usize = mailboxes.values().flatten().map(String::len).sum();
    if bytes > UNREAD_BYTES_MAX {
        return Err(Failure::engine(format!(
            "the unread messages have {bytes} bytes and the next execution can carry at most {UNREAD_BYTES_MAX}; send fewer messages, or ids instead of data"
        )));
    }
    let mut all = BTreeMap::new();
    for (mailbox, messages) in mailboxes {
        let messages = messages.into_iter().map(RawValue::from_string);
        let messages: Vec<_> = messages
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::engine(format!("a message is not JSON: {error}")))?;
        if !messages.is_empty() {
            all.insert(mailbox, messages);
        }
    }
    Ok(all)
}

fn try_outcome(result: Option<ActivityResolution>) -> Result<String, host_workflows::TryFailed> {
    match result.and_then(|result| result.status) {
        Some(TryStatus::Completed(done)) => Ok(payload::text(done.result.as_ref())),
        Some(TryStatus::Failed(failed)) => Err(payload::read_try(failed.failure.as_ref())),
        Some(TryStatus::Cancelled(_)) => Err(ActivityError::retryable(
            "stopped",
            "the activity was stopped before it ended",
        )
        .into()),
        Some(TryStatus::Backoff(_)) | None => Err(ActivityError::retryable(
            "engine",
            "Temporal does not report how the activity ended",
        )
        .into()),
    }
}

fn child_refused(start: &ResolveChildWorkflowExecutionStart) -> Option<Failure> {
    match &start.status {
        Some(ChildStart::Succeeded(_)) => None,
        Some(ChildStart::Failed(failed)) => Some(Failure::engine(format!(
            "the id `{}` is already used by another workflow",
            failed.workflow_id
        ))),
        Some(ChildStart::Cancelled(_)) => Some(Failure::engine(
            "the child workflow was stopped before it started",
        )),
        None => Some(Failure::engine(
            "Temporal does not report whether the child workflow started",
        )),
    }
}

fn child_outcome(result: Option<ChildWorkflowResult>) -> Result<String, Failure> {
    match result.and_then(|result| result.status) {
        Some(ChildStatus::Completed(done)) => Ok(payload::text(done.result.as_ref())),
        Some(ChildStatus::Failed(failed)) => Err(payload::read_failure(failed.failure.as_ref())),
        Some(ChildStatus::Cancelled(_)) => Err(Failure::engine(
            "the child workflow was stopped before it ended",
        )),
        None => Err(Failure::engine(
            "Temporal does not report how the child workflow ended",
        )),
    }
}
