//! `process`: registers a process with the supervisor and starts it.

use anyhow::Context as _;
use proto::v1 as pb;

use super::trace::TracedProcess;
use super::{StepContext, Trace};
use crate::adapters::process::{Desired, ProcessSpec, State, Supervisor};

pub(super) fn plan(ctx: &StepContext, process: &pb::Process) -> anyhow::Result<Trace> {
    let spec = ProcessSpec::try_from(process)?;
    let before = Supervisor::record(&ctx.root, &spec.name)?;
    Ok(Trace {
        process: Some(TracedProcess {
            name: spec.name,
            before,
        }),
        ..Trace::default()
    })
}

pub(super) async fn execute(ctx: &StepContext, process: &pb::Process) -> anyhow::Result<()> {
    ctx.supervisor
        .start(&ctx.root, ProcessSpec::try_from(process)?)
        .await?;
    Ok(())
}

pub(super) fn is_done(ctx: &StepContext, process: &pb::Process) -> anyhow::Result<bool> {
    let spec = ProcessSpec::try_from(process)?;
    let same = Supervisor::record(&ctx.root, &spec.name)?.is_some_and(|r| r.spec == spec);
    Ok(same && ctx.supervisor.status(ctx.root.id, &spec.name).state == State::Running)
}

pub(super) async fn undo(ctx: &StepContext, process: &TracedProcess) -> anyhow::Result<()> {
    ctx.supervisor.remove(&ctx.root, &process.name).await?;
    if let Some(before) = &process.before {
        ctx.supervisor
            .start(&ctx.root, before.spec.clone())
            .await
            .context("the process can't be run as before")?;
        if before.desired == Desired::Stopped {
            ctx.supervisor.stop(&ctx.root, &process.name).await?;
        }
    }
    Ok(())
}
