//! A running workflow as duroxide provides it.
//!
//! Cancelling is a message like any other: the workflow takes it, notes it where its running activities look, and
//! undoes what it did. Duroxide's own cancel would end the workflow without a chance to undo.

use std::convert::Infallible;
use std::time::Duration;

use duroxide::OrchestrationContext;
use futures_util::future::BoxFuture;
use host_workflows::{ActivityCall, ActivityError, Control, Failure, TryFailed};

/// The mailbox of cancels; no other message can name it.
pub(super) const CANCEL_MAILBOX: &str = "bellwether.cancel";
/// The workflow's note that it was cancelled, for its running activities.
pub(super) const CANCELLED_KEY: &str = "bellwether.cancelled";

/// One running workflow.
pub(super) struct DuroxideControl {
    ctx: OrchestrationContext,
}

impl DuroxideControl {
    /// The control of a workflow that begins, or begins to be replayed.
    pub(super) fn new(ctx: OrchestrationContext) -> Self {
        Self { ctx }
    }
}

impl Control for DuroxideControl {
    fn workflow_id(&self) -> String {
        self.ctx.instance_id()
    }

    fn execution(&self) -> u64 {
        self.ctx.execution_id()
    }

    fn try_activity(&self, call: ActivityCall) -> BoxFuture<'static, Result<String, TryFailed>> {
        match serde_json::to_string(&call) {
            Ok(text) => {
                let running = self.ctx.schedule_activity(call.name, text);
                Box::pin(running.map(|outcome| outcome.map_err(|text| try_failed(&text))))
            }
            Err(error) => {
                let error = ActivityError::permanent("exchange", error.to_string());
                Box::pin(std::future::ready(Err(error.into())))
            }
        }
    }

    fn stop_activities(&self, reason: &str) {
        if self.ctx.get_kv_value(CANCELLED_KEY).is_none() {
            self.ctx.set_kv_value(CANCELLED_KEY, reason);
        }
    }

    fn child(
        &self,
        kind: &str,
        id: &str,
        input: String,
    ) -> BoxFuture<'static, Result<String, Failure>> {
        let running = self.ctx.schedule_sub_orchestration_with_id(kind, id, input);
        Box::pin(running.map(|outcome| outcome.map_err(|text| failure(&text))))
    }

    fn timer(&self, pause: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.ctx.schedule_timer(pause))
    }

    fn signal(&self, mailbox: &str) -> BoxFuture<'static, String> {
        Box::pin(self.ctx.dequeue_event(mailbox))
    }

    fn status(&self, progress: String) {
        self.ctx.set_custom_status(progress);
    }

    fn again(&self, input: String) -> BoxFuture<'static, Infallible> {
        // Asking is enough; the runtime takes the workflow away at its next pause, which is at once.
        drop(self.ctx.continue_as_new(input));
        Box::pin(std::future::pending())
    }

    fn cancelled(&self) -> BoxFuture<'static, String> {
        Box::pin(self.ctx.dequeue_event(CANCEL_MAILBOX))
    }
}

/// A failure as the text that travels through the engine.
pub(super) fn failure_text(failure: &Failure) -> String {
    serde_json::to_string(failure).unwrap_or_else(|_| failure.to_string())
}

/// A failure from the text that travelled, or from duroxide's own words.
pub(super) fn failure(text: &str) -> Failure {
    serde_json::from_str(text).unwrap_or_else(|_| Failure::engine(text))
}

/// Text that is not ours comes from duroxide: the process or the task died, and another try may live.
fn try_failed(text: &str) -> TryFailed {
    serde_json::from_str(text).unwrap_or_else(|_| ActivityError::retryable("engine", text).into())
}

/// What a failed try looks like on its way.
pub(super) fn try_failed_text(failed: &TryFailed) -> String {
    serde_json::to_string(failed).unwrap_or_else(|_| failed.error.to_string())
}
