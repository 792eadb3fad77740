//! Returns machines that nodes left behind, as soon as the machines are reachable.
//!
//! A machine can be unreachable for days while something of its node runs on it or is paid for, so the loop retries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use host_workflows::{ActivityCall, ActivityContext, Pulse, Retry};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::loops::{Loop, Pace};
use crate::activities::{MachineWork, give_back};
use crate::ops::{OpError, Records};
use crate::services::Services;
use host_store::Role;

/// Machines that are worked on at once.
const AT_ONCE: u32 = 16;

/// Returns left machines, on each host with an engine.
pub(super) fn machine_cleaner(services: &Services) -> Loop {
    let cleaner = MachineCleaner::of(services);
    let pace = Pace::Every(Duration::from_secs(10));
    Loop::everyone("machines", Role::Orchestrator, pace, move |records| {
        let cleaner = cleaner.clone();
        async move { cleaner.round(&records).await }
    })
}

#[derive(Clone)]
struct MachineCleaner {
    work: MachineWork,
    shutdown: CancellationToken,
}

impl MachineCleaner {
    fn of(services: &Services) -> Self {
        Self {
            work: MachineWork::of(services, &services.records(Role::Orchestrator)),
            shutdown: services.tasks.shutdown.clone(),
        }
    }

    /// One round. A try locks its machine, so several hosts may run this concurrently.
    async fn round(&self, records: &Records) -> Result<(), OpError> {
        let left = records
            .db
            .machine_claims_to_clean(records.now(), AT_ONCE)
            .await?;
        let ctx = self.context()?;
        let tries = left.iter().map(|claim| {
        let (work, ctx) = (&self.work, &ctx);
        async move {
            if let Err(error) = give_back(work, ctx, claim).await {
                // Those behind it must not wait for it.
                tracing::warn!(machine.id = %claim.machine_id, "a machine is given back later: {:#}", anyhow::Error::from(error));
            }
        }
    });
        join_all(tries).await;
        Ok(())
    }

    /// The context of an activity for machine providers, which ends with the host.
    fn context(&self) -> Result<ActivityContext, OpError> {
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
        let pulse = Arc::new(HostPulse(self.shutdown.clone()));
        Ok(ActivityContext::new("machines", &call, pulse))
    }
}

struct HostPulse(CancellationToken);

impl Pulse for HostPulse {
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
