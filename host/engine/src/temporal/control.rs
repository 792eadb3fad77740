//! Implements the workflow port for a workflow that Temporal runs.
//!
//! Each attempt is one Temporal activity, and the port's own loop counts attempts, as on the other engine. Temporal
//! retries an attempt by itself only when heartbeats show that its worker died; the attempt then keeps its number. A
//! cancel uses Temporal's own, which lets the workflow undo its work.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use host_workflows::{ActivityCall, ActivityError, Control, Failure, TryFailed};
use temporalio_common::protos::coresdk::child_workflow::{
    ChildWorkflowCancellationType, ParentClosePolicy,
};
use temporalio_common::protos::coresdk::workflow_commands::workflow_command::Variant as Command;
use temporalio_common::protos::coresdk::workflow_commands::{
    ActivityCancellationType, ModifyWorkflowProperties, ScheduleActivity,
    StartChildWorkflowExecution, StartTimer,
};
use temporalio_common::protos::temporal::api::common::v1::RetryPolicy;
use temporalio_common::protos::temporal::api::enums::v1::WorkflowIdReusePolicy;

use super::code::Code;
use super::desk::{Answer, Answered, Desk, SharedDesk, Until, What, locked};
use super::payload::{Envelope, encoded, memo, payload, shown, span};

/// What Temporal waits beyond the time limit of an attempt, which the worker enforces first.
const TRY_GRACE: Duration = Duration::from_secs(30);
/// The pause before an attempt is retried whose worker died.
const REPEAT_PAUSE: Duration = Duration::from_secs(1);
/// How many workers one attempt may lose.
const REPEATS_MAX: i32 = 1_000;
/// Temporal's shortest timer.
const TIMER_MIN: Duration = Duration::from_millis(1);

/// One running workflow.
pub(super) struct TemporalControl {
    pub(super) id: String,
    pub(super) execution: u64,
    pub(super) desk: SharedDesk,
    pub(super) code: Arc<Code>,
}

impl TemporalControl {
    fn schedule(&self, seq: u32, call: &ActivityCall, text: Vec<u8>) -> Command {
        Command::ScheduleActivity(ScheduleActivity {
            seq,
            activity_id: seq.to_string(),
            activity_type: call.name.clone(),
            task_queue: self.code.task_queue.clone(),
            arguments: vec![payload(text)],
            start_to_close_timeout: span(call.retry.per_try + TRY_GRACE),
            heartbeat_timeout: span(self.code.heartbeat_limit),
            retry_policy: Some(RetryPolicy {
                initial_interval: span(REPEAT_PAUSE),
                backoff_coefficient: 1.0,
                maximum_attempts: REPEATS_MAX,
                ..RetryPolicy::default()
            }),
            cancellation_type: ActivityCancellationType::WaitCancellationCompleted.into(),
            ..ScheduleActivity::default()
        })
    }

    fn start_child(&self, kind: &str, id: &str, input: String) -> Result<Answered, Failure> {
        let newest = self.code.workflows.newest(kind);
        let version = newest.ok_or_else(|| {
            Failure::engine(format!("this host has no workflow of the kind `{kind}`"))
        })?;
        let envelope = encoded(&Envelope::first(version.version));
        let envelope = envelope.map_err(|error| Failure::engine(error.to_string()))?;
        let seq = locked(&self.desk).ask(What::Child, |seq| {
            Command::StartChildWorkflowExecution(StartChildWorkflowExecution {
                seq,
                namespace: self.code.namespace.clone(),
                workflow_id: id.to_owned(),
                workflow_type: kind.to_owned(),
                task_queue: self.code.task_queue.clone(),
                input: vec![envelope, payload(input)],
                workflow_task_timeout: span(self.code.turn_limit),
                // A cancelled child must be able to undo its work, even when its parent has ended.
                parent_close_policy: ParentClosePolicy::Abandon.into(),
                workflow_id_reuse_policy: WorkflowIdReusePolicy::RejectDuplicate.into(),
                cancellation_type: ChildWorkflowCancellationType::TryCancel.into(),
                memo: memo(version.version, None),
                ..StartChildWorkflowExecution::default()
            })
        });
        Ok(Answered::to(&self.desk, seq))
    }
}

impl Control for TemporalControl {
    fn workflow_id(&self) -> String {
        self.id.clone()
    }

    fn execution(&self) -> u64 {
        self.execution
    }

    fn try_activity(&self, call: ActivityCall) -> BoxFuture<'static, Result<String, TryFailed>> {
        let text = match serde_json::to_vec(&call) {
            Ok(text) => text,
            Err(error) => {
                let error = ActivityError::permanent("exchange", error.to_string());
                return std::future::ready(Err(error.into())).boxed();
            }
        };
        let what = What::Try {
            shielded: call.shielded,
            stopped: false,
        };
        let seq = locked(&self.desk).ask(what, |seq| self.schedule(seq, &call, text));
        Answered::to(&self.desk, seq)
            .map(|answer| match answer {
                Answer::Try(outcome) => outcome,
                other => Err(ActivityError::retryable("engine", misfit(&other)).into()),
            })
            .boxed()
    }

    fn stop_activities(&self, _: &str) {
        locked(&self.desk).stop_tries();
    }

    fn child(
        &self,
        kind: &str,
        id: &str,
        input: String,
    ) -> BoxFuture<'static, Result<String, Failure>> {
        match self.start_child(kind, id, input) {
            Err(failure) => std::future::ready(Err(failure)).boxed(),
            Ok(answered) => answered
                .map(|answer| match answer {
                    Answer::Child(outcome) => outcome,
                    other => Err(Failure::engine(misfit(&other))),
                })
                .boxed(),
        }
    }

    fn timer(&self, pause: Duration) -> BoxFuture<'static, ()> {
        let seq = locked(&self.desk).ask(What::Timer, |seq| {
            Command::StartTimer(StartTimer {
                seq,
                start_to_fire_timeout: span(pause.max(TIMER_MIN)),
            })
        });
        Answered::to(&self.desk, seq).map(drop).boxed()
    }

    fn signal(&self, mailbox: &str) -> BoxFuture<'static, String> {
        let mailbox = mailbox.to_owned();
        Until::new(&self.desk, move |desk: &mut Desk| {
            desk.mailboxes.get_mut(&mailbox)?.pop_front()
        })
        .boxed()
    }

    fn status(&self, progress: String) {
        let mut desk = locked(&self.desk);
        desk.commands.push(Command::ModifyWorkflowProperties(
            ModifyWorkflowProperties {
                upserted_memo: Some(shown(&progress)),
            },
        ));
        desk.progress = Some(progress);
    }

    fn again(&self, input: String) -> BoxFuture<'static, Infallible> {
        locked(&self.desk).again = Some(input);
        std::future::pending().boxed()
    }

    fn cancelled(&self) -> BoxFuture<'static, String> {
        Until::new(&self.desk, |desk: &mut Desk| desk.cancelled.clone()).boxed()
    }
}

/// Temporal numbers its commands, so this can't happen.
fn misfit(answer: &Answer) -> String {
    format!("Temporal's answer does not match the command: {answer:?}")
}
