//! Runs an attempt that duroxide hands out, and stops it when its workflow is cancelled.

use std::time::Duration;

use host_workflows::{ActivityCall, ActivityError, Handler};
use tokio_util::sync::CancellationToken;

use super::control::{CANCELLED_KEY, try_failed_text};
use crate::tries::{Beats, run_try};

/// Runs an attempt; both the result and the error are text.
pub(super) async fn run(
    handler: Handler,
    ctx: duroxide::ActivityContext,
    text: String,
    cancel_poll: Duration,
) -> Result<String, String> {
    let call: ActivityCall = serde_json::from_str(&text).map_err(|error| {
        let error = ActivityError::permanent(
            "exchange",
            format!("the host can't parse the call of the activity: {error}"),
        );
        try_failed_text(&error.into())
    })?;
    // A child token: if the workflow's cancel cancelled duroxide's token, duroxide would assume that it stopped the
    // attempt.
    let stop = ctx.cancellation_token().child_token();
    let beats = Beats::new(stop.clone());
    let watch = watch_cancel(&ctx, &call, &stop, cancel_poll);
    run_try(handler, ctx.instance_id(), &call, &beats, watch)
        .await
        .map_err(|failed| try_failed_text(&failed))
}

/// Polls whether the workflow recorded its cancellation. The record is durable, so an attempt that runs again after a
/// crash sees it too.
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
