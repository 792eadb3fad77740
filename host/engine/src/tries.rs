//! Runs one attempt of an activity within its time limits, the same way for every engine.
//!
//! The limits are not durable timers, because timers that lose a race stay in duroxide's queue until they fire, and
//! because this way an aborted attempt has the same error on every engine.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use host_domain::time::format_duration;
use host_workflows::{
    ActivityCall, ActivityContext, ActivityError, Handler, Pulse, TryFailed, exchange,
};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Runs an attempt until it ends, exceeds a limit, or `given_up` resolves.
pub(crate) async fn run_try(
    handler: Handler,
    workflow_id: &str,
    call: &ActivityCall,
    beats: &Arc<Beats>,
    given_up: impl Future<Output = ActivityError>,
) -> Result<String, TryFailed> {
    let span = tracing::info_span!(
        "activity",
        activity.name = call.name,
        activity.key = call.key,
        activity.attempt = call.attempt,
        workflow.id = workflow_id,
    );
    let pulse = Arc::clone(beats) as Arc<dyn Pulse>;
    let work = handler(
        ActivityContext::new(workflow_id, call, pulse),
        call.input.get().to_owned(),
    );
    let work = AssertUnwindSafe(work.instrument(span)).catch_unwind();
    let outcome = tokio::select! {
        done = work => done.unwrap_or_else(|panic| Err(panicked(&*panic))),
        error = limits(call, beats) => Err(error),
        error = given_up => Err(error),
    };
    let output = outcome.and_then(|output| {
        exchange::check(&format!("the output of `{}`", call.name), &output)?;
        Ok(output)
    });
    output.map_err(|error| TryFailed {
        error,
        last: beats.last().take(),
    })
}

/// Resolves when the attempt exceeds its time limit or sends no heartbeat for too long.
async fn limits(call: &ActivityCall, beats: &Beats) -> ActivityError {
    let silent = async {
        match call.retry.heartbeat {
            None => std::future::pending().await,
            Some(limit) => {
                while tokio::time::timeout(limit, beats.beaten.notified())
                    .await
                    .is_ok()
                {}
                limit
            }
        }
    };
    tokio::select! {
        () = tokio::time::sleep(call.retry.per_try) => {
            let limit = format_duration(call.retry.per_try);
            ActivityError::retryable("timed_out", format!("`{}` took longer than {limit}", call.name))
        }
        limit = silent => {
            let limit = format_duration(limit);
            ActivityError::retryable("timed_out", format!("`{}` sent no heartbeat for {limit}", call.name))
        }
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ActivityError {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ActivityError::retryable("panicked", format!("the activity panicked: {text}"))
}

/// The heartbeats of one attempt, and whether it was asked to stop.
#[derive(Default)]
pub(crate) struct Beats {
    last: Mutex<Option<Box<RawValue>>>,
    beaten: Notify,
    stop: CancellationToken,
}

impl Beats {
    /// The heartbeats of an attempt that should end soon after `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            stop,
            ..Self::default()
        })
    }

    /// The last heartbeat.
    pub(crate) fn last(&self) -> MutexGuard<'_, Option<Box<RawValue>>> {
        // No holder panics.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pulse for Beats {
    fn beat(&self, progress: Box<RawValue>) {
        *self.last() = Some(progress);
        self.beaten.notify_one();
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.stop.clone().cancelled_owned())
    }
}
