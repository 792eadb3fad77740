//! `process`: starts a process with the runtime adapter that the profile names.

use anyhow::Context as _;
use async_trait::async_trait;
use proto::v1 as pb;
use serde::{Deserialize, Serialize};

use super::{Payload, Step, StepContext};
use crate::adapters::{Adapters, DesiredState, ProcessRecord};

/// The process that had the same name before.
#[derive(Serialize, Deserialize)]
struct ProcessBackup {
    record: Option<ProcessRecord>,
}

#[async_trait]
impl Step for pb::Process {
    fn kind(&self) -> &'static str {
        "process"
    }

    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload> {
        ctx.adapters.check(self)?;
        let record = Adapters::record(&ctx.root, &self.name)?;
        Ok(Payload::of(&ProcessBackup { record })?)
    }

    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()> {
        ctx.adapters.start(&ctx.root, self).await
    }

    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool> {
        ctx.adapters.is_running(&ctx.root, self)
    }

    async fn undo(&self, ctx: &StepContext, payload: &Payload) -> anyhow::Result<()> {
        ctx.adapters.remove(&ctx.root, self).await?;
        let Some(old) = payload.read::<ProcessBackup>()?.record else {
            return Ok(());
        };
        ctx.adapters
            .start(&ctx.root, &old.process)
            .await
            .context("the previous process failed to start")?;
        if old.desired == DesiredState::Stopped {
            ctx.adapters.stop(&ctx.root, &old.process).await?;
        }
        Ok(())
    }
}
