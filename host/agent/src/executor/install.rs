//! `Install`: runs a recipe's steps in order; a failure undoes the begun ones in reverse.
//!
//! Three layers keep a step from being done twice: the journal of finished steps, what a step itself keeps of a
//! broken try, and a look at the system before it is begun again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use host_domain::ids::{CommandId, NodeId};
use host_domain::time::Millis;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;

use super::{Ended, Executor, deadline, failure};
use crate::journal::{Failure, Phase, Record, StepRecord, StepState};
use crate::node_root::{NodeRoot, RUN_DIR};
use crate::steps::{self, Report, StepContext};
use crate::time;

/// The time of a step that names none.
const STEP_DEFAULT: Duration = Duration::from_mins(10);
/// The time of undoing one step.
const UNDO_MAX: Duration = Duration::from_mins(5);
/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// Whether a failed command left something that is not undone.
pub(super) fn has_rest(record: &Record) -> bool {
    matches!(record.command.action, Some(pb::command::Action::Install(_)))
        && record
            .steps
            .iter()
            .any(|step| step.state != StepState::Undone)
}

impl Executor {
    /// An error here is one of the journal; everything else is in the outcome.
    pub(super) async fn install(
        &self,
        node: NodeId,
        id: CommandId,
        record: &Record,
        install: &pb::Install,
    ) -> io::Result<Ended> {
        let root = match NodeRoot::open(&self.layout, node) {
            Ok(Some(root)) => root,
            Ok(None) => {
                return Ok(Err(failure(
                    "",
                    "the node has no folder here; send `Prepare` first",
                )));
            }
            Err(error) => {
                return Ok(Err(failure(
                    "",
                    &format!("the node's folder can't be opened: {error}"),
                )));
            }
        };
        let undoing = match &record.phase {
            Phase::Undoing(failure) => Some(failure.clone()),
            Phase::Forward | Phase::Finished(_) | Phase::Stored(..) => None,
        };
        let failed = match undoing {
            Some(failure) => failure,
            None => match self.forward(&root, id, record, install).await? {
                Ok(()) => {
                    let _ = root.remove(&saved_folder(id));
                    return Ok(Ok(None));
                }
                Err(failure) => {
                    tracing::warn!(command.id = %id, step = failure.step, error = failure.error, "undoing");
                    let phase = Phase::Undoing(failure.clone());
                    self.journal
                        .update(id, |record| record.phase = phase)
                        .await?;
                    failure
                }
            },
        };
        let failed = self.backward(&root, id, failed).await?;
        Ok(Err(failed))
    }

    async fn forward(
        &self,
        root: &NodeRoot,
        id: CommandId,
        record: &Record,
        install: &pb::Install,
    ) -> io::Result<Result<(), Failure>> {
        let deadline = deadline(record);
        for (index, step) in install.steps.iter().enumerate() {
            if self.step_state(id, index) == Some(StepState::Finished) {
                continue;
            }
            let ctx = self.context(root, id, index, install);
            let done = self.step(&ctx, id, index, step, deadline).await?;
            if let Err(error) = done {
                let (step, error) = (step.name.clone(), format!("{error:#}"));
                return Ok(Err(Failure {
                    step,
                    error,
                    output: ctx.report.output(),
                }));
            }
            self.journal
                .update(id, |record| set_state(record, index, StepState::Finished))
                .await?;
            ctx.report.progress(Some(1.0), "done");
        }
        Ok(Ok(()))
    }

    /// One step: planned and written down, then done unless a look shows that it is.
    async fn step(
        &self,
        ctx: &StepContext,
        id: CommandId,
        index: usize,
        step: &pb::Step,
        deadline: Millis,
    ) -> io::Result<anyhow::Result<()>> {
        if deadline.since(time::now()).is_zero() {
            return Ok(Err(anyhow::anyhow!("the command's time is over")));
        }
        if self.step_state(id, index).is_none() {
            let trace = match steps::plan(ctx, step) {
                Ok(trace) => trace,
                Err(error) => return Ok(Err(error)),
            };
            let name = step.name.clone();
            let begun = StepRecord {
                index,
                name,
                trace,
                state: StepState::Begun,
            };
            self.journal
                .update(id, |record| record.steps.push(begun))
                .await?;
        }
        ctx.report.progress(None, "begins");
        Ok(self.try_step(ctx, step, deadline).await)
    }

    async fn try_step(
        &self,
        ctx: &StepContext,
        step: &pb::Step,
        deadline: Millis,
    ) -> anyhow::Result<()> {
        let retry = step.retry.unwrap_or_default();
        let limit = if step.timeout_ms == 0 {
            STEP_DEFAULT
        } else {
            Duration::from_millis(step.timeout_ms)
        };
        let mut attempt = 0;
        loop {
            if steps::is_done(ctx, step).await? {
                return Ok(());
            }
            let limit = limit.min(deadline.since(time::now()));
            let tried = match tokio::time::timeout(limit, steps::execute(ctx, step)).await {
                Ok(tried) => tried,
                Err(_) => Err(anyhow::anyhow!(
                    "it did not end within {} s",
                    limit.as_secs_f32()
                )),
            };
            attempt += 1;
            let Err(error) = tried else { return Ok(()) };
            if attempt >= retry.attempts || deadline.since(time::now()).is_zero() {
                return Err(error);
            }
            ctx.report
                .progress(None, format!("try {attempt} failed: {error:#}"));
            ctx.report.print(&format!("try {attempt}: {error:#}\n"));
            let base = Duration::from_millis(retry.backoff_ms.max(100));
            time::sleep(time::backoff(base, BACKOFF_MAX, attempt - 1)).await;
        }
    }

    /// Undoes in reverse what was begun. What can't be undone stays, and so does everything before it.
    async fn backward(
        &self,
        root: &NodeRoot,
        id: CommandId,
        mut failed: Failure,
    ) -> io::Result<Failure> {
        let Some(record) = self.journal.get(id) else {
            return Ok(failed);
        };
        let none = pb::Install::default();
        for step in record
            .steps
            .iter()
            .rev()
            .filter(|step| step.state != StepState::Undone)
        {
            let ctx = self.context(root, id, step.index, &none);
            let undone = tokio::time::timeout(UNDO_MAX, steps::undo(&ctx, &step.trace)).await;
            if let Err(error) = undone.context("it took too long").flatten() {
                failed.error = format!(
                    "{}; and step `{}` can't be undone: {error:#}; look at the node's folder on the machine",
                    failed.error, step.name
                );
                return Ok(failed);
            }
            self.journal
                .update(id, |record| {
                    set_state(record, step.index, StepState::Undone);
                })
                .await?;
        }
        let _ = root.remove(&saved_folder(id));
        Ok(failed)
    }

    fn step_state(&self, id: CommandId, index: usize) -> Option<StepState> {
        let record = self.journal.get(id)?;
        record
            .steps
            .iter()
            .find(|step| step.index == index)
            .map(|step| step.state)
    }

    fn context(
        &self,
        root: &NodeRoot,
        id: CommandId,
        index: usize,
        install: &pb::Install,
    ) -> StepContext {
        let tell = self.tell.clone();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let base = pb::CommandProgress {
            command_id: id.to_string(),
            step: install
                .steps
                .get(index)
                .map(|step| step.name.clone())
                .unwrap_or_default(),
            step_index: count(index),
            step_count: count(install.steps.len()),
            ..Default::default()
        };
        StepContext {
            root: root.clone(),
            supervisor: Arc::clone(&self.supervisor),
            artefacts: Arc::clone(&self.artefacts),
            http: self.http.clone(),
            local_http: self.local_http.clone(),
            gateway: self.gateway.clone(),
            saved: saved_folder(id).join(index.to_string()),
            report: Report::new(move |fraction, message| {
                // Progress is for people; the next one makes up for one that finds the queue full.
                let progress = pb::CommandProgress {
                    fraction,
                    message,
                    ..base.clone()
                };
                let _ = tell.try_send(Out::Progress(progress));
            }),
        }
    }
}

fn saved_folder(id: CommandId) -> std::path::PathBuf {
    Path::new(RUN_DIR).join("saved").join(id.to_string())
}

fn set_state(record: &mut Record, index: usize, state: StepState) {
    for step in record.steps.iter_mut().filter(|step| step.index == index) {
        step.state = state;
    }
}
