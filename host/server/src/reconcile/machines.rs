//! Gives machines back that nodes left behind, as soon as they can be reached.
//!
//! A machine can be away for days while something of its node runs on it or is paid for, so it is tried again and again.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use host_workflows::{ActivityCall, ActivityContext, Pulse, Retry};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use crate::activities::give_back;
use crate::app::App;
use crate::ops::OpError;

/// Machines that are worked on at once.
const AT_ONCE: u32 = 16;

/// One round. Each machine is one host's for the time of a try, so several hosts may look at once.
pub(crate) async fn round(app: App) -> Result<(), OpError> {
    let left = app
        .db
        .machine_claims_to_clean(app.clock.now(), AT_ONCE)
        .await?;
    let ctx = context(&app)?;
    let tries = left.iter().map(|claim| {
        let (app, ctx) = (&app, &ctx);
        async move {
            if let Err(error) = give_back(app, ctx, claim).await {
                // Those behind it must not wait for it.
                tracing::warn!(machine.id = %claim.machine_id, "a machine is given back later: {:#}", anyhow::Error::from(error));
            }
        }
    });
    join_all(tries).await;
    Ok(())
}

/// Providers work for activities; this stands in for one, and its work ends with the machine.
fn context(app: &App) -> Result<ActivityContext, OpError> {
    let input = RawValue::from_string("null".to_owned()).map_err(OpError::internal)?;
    let call = ActivityCall {
        name: "give_back".to_owned(),
        key: "give_back".to_owned(),
        attempt: 1,
        last: None,
        shielded: false,
        retry: Retry::PROVIDER,
        input,
    };
    let pulse = Arc::new(WithTheHost(app.shutdown.clone()));
    Ok(ActivityContext::new("machines", &call, pulse))
}

struct WithTheHost(CancellationToken);

impl Pulse for WithTheHost {
    fn beat(&self, _: Box<RawValue>) {}

    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    fn cancelled(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.0.clone().cancelled_owned())
    }
}

#[cfg(test)]
mod tests;
