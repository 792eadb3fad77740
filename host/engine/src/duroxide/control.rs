//! Implements the workflow port for a workflow that duroxide runs.
//!
//! A cancel is an ordinary message: the workflow receives it, records it for its running activities, and undoes its
//! work. Duroxide's own cancel would end the workflow without an undo.

use std::convert::Infallible;
use std::time::Duration;

use duroxide::OrchestrationContext;
use futures_util::future::BoxFuture;
use host_workflows::{ActivityCall, ActivityError, Control, Failure, TryFailed};

/// The mailbox of cancels; no other message can use its name.
pub(super) const CANCEL_MAILBOX: &str = "bellwether.cancel";
/// The record of a cancellation that running activities poll.
pub(super) const CANCELLED_KEY: &str = "bellwether.cancelled";

/// One running workflow.
pub(super) struct DuroxideControl {
    ctx: OrchestrationContext,
}

impl DuroxideControl {
    /// The control of a workflow that starts or is replayed.
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
        // The future never resolves; the runtime drops the workflow at its next await, immediately.
        drop(self.ctx.continue_as_new(input));
        Box::pin(std::future::pending())
    }

    fn cancelled(&self) -> BoxFuture<'static, String> {
        Box::pin(self.ctx.dequeue_event(CANCEL_MAILBOX))
    }
}

/// A failure as the text that passes through the engine.
pub(super) fn failure_text(failure: &Failure) -> String {
    serde_json::to_string(failure).unwrap_or_else(|_| failure.to_string())
}

/// A failure from such a text, or from duroxide's own error message.
pub(super) fn failure(text: &str) -> Failure {
    serde_json::from_str(text).unwrap_or_else(|_| Failure::engine(text))
}

/// Any other text comes from duroxide: the process or the task died, and a retry may succeed.
fn try_failed(text: &str) -> TryFailed {
    serde_json::from_str(text).unwrap_or_else(|_| ActivityError::retryable("engine", text).into())
}

/// A failed attempt as the text that passes through the engine.
pub(super) fn try_failed_text(failed: &TryFailed) -> String {
    serde_json::to_string(failed).unwrap_or_else(|_| failed.error.to_string())
}
