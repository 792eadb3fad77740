//! A try as duroxide hands it out, and how it hears that its workflow was cancelled.

use std::time::Duration;

use host_workflows::{ActivityCall, ActivityError, Handler};
use tokio_util::sync::CancellationToken;

use super::control::{CANCELLED_KEY, try_failed_text};
use crate::tries::{Beats, run_try};

/// Runs a try and gives back text on both roads.
pub(super) async fn run(
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
    let beats = Beats::new(stop.clone());
    let watch = watch_cancel(&ctx, &call, &stop, cancel_poll);
    run_try(handler, ctx.instance_id(), &call, &beats, watch)
        .await
        .map_err(|failed| try_failed_text(&failed))
}

/// Looks now and then whether the workflow noted that it was cancelled. The note is durable, so a try that runs again
/// after a crash hears of it too.
async fn watch_cancel(
    ctx: &duroxide::ActivityContext,
    call: &ActivityCall,
    stop: &CancellationToken,
    every: Duration,
) -> ActivityError {
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
