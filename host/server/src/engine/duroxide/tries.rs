//! One try of an activity, within its limits.
//!
//! The limits are kept here and not by durable timers, because losing timers stay in duroxide's queue until they fire.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use host_domain::time::format_duration;
use host_workflows::{
    ActivityCall, ActivityContext, ActivityError, Handler, Pulse, TryFailed, exchange,
};
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::control::{CANCELLED_KEY, try_failed_text};

/// Runs a try and gives back text on both roads.
pub(super) async fn run_try(
    handler: Handler,
    ctx: duroxide::ActivityContext,
    text: String,
    cancel_poll: Duration,
) -> Result<String, String> {
    let call: ActivityCall = serde_json::from_str(&text).map_err(|error| {
        let error = ActivityError::permanent("exchange", format!("an unreadable call: {error}"));
        try_failed_text(&error.into())
    })?;
    // A child token: the note of a cancel must not look to duroxide as if it had stopped the try itself.
    let stop = ctx.cancellation_token().child_token();
    let beats = Arc::new(Beats {
        stop: stop.clone(),
        ..Beats::default()
    });
    let work = handler(
        ActivityContext::new(
            ctx.instance_id(),
            &call,
            Arc::clone(&beats) as Arc<dyn Pulse>,
        ),
        call.input.get().to_owned(),
    );
    let outcome = tokio::select! {
        done = AssertUnwindSafe(work).catch_unwind() => done.unwrap_or_else(|panic| Err(panicked(&*panic))),
        error = limits(&call, &beats) => Err(error),
        never = watch_cancel(&ctx, &call, &stop, cancel_poll) => match never {},
    };
    let output = outcome.and_then(|output| {
        exchange::check(&format!("the output of `{}`", call.name), &output)?;
        Ok(output)
    });
    output.map_err(|error| {
        try_failed_text(&TryFailed {
            error,
            last: beats.take_last(),
        })
    })
}

/// Comes when the try has run for too long, or was silent for too long.
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
            ActivityError::retryable("timed_out", format!("`{}` gave no sign of life for {limit}", call.name))
        }
    }
}

/// Looks now and then whether the workflow noted that it was cancelled. The note is durable, so a try that runs again
/// after a crash hears of it too.
async fn watch_cancel(
    ctx: &duroxide::ActivityContext,
    call: &ActivityCall,
    stop: &CancellationToken,
    every: Duration,
) -> std::convert::Infallible {
    if call.shielded {
        return std::future::pending().await;
    }
    let client = ctx.get_client();
    loop {
        tokio::time::sleep(every).await;
        if let Ok(Some(_)) = client.get_kv_value(ctx.instance_id(), CANCELLED_KEY).await {
            stop.cancel();
            return std::future::pending().await;
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

#[derive(Default)]
struct Beats {
    last: Mutex<Option<Box<RawValue>>>,
    beaten: Notify,
    stop: CancellationToken,
}

impl Beats {
    fn last(&self) -> MutexGuard<'_, Option<Box<RawValue>>> {
        // Nothing panics while holding it.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_last(&self) -> Option<Box<RawValue>> {
        self.last().take()
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
