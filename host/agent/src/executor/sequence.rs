//! Runs the steps of a command in order. A failure undoes the started steps in reverse order.
//!
//! Three layers keep a step from running twice: the journal of finished steps, what the step itself keeps of an
//! interrupted attempt, and a check of the system before each attempt.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use host_domain::ids::{CommandId, NodeId};
use host_domain::time::Millis;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use proto::v1::command::Action;

use super::{ActionResult, Executor, deadline, failure};
use crate::journal::{Failure, Phase, Record, StepRecord, StepState};
use crate::node_root::{NodeRoot, RUN_DIR, checked};
use crate::steps::{Report, Step, StepContext, step_of};
use crate::time;

/// The time limit of a step that sets none.
const STEP_DEFAULT: Duration = Duration::from_mins(10);
/// The time limit for undoing one step.
const UNDO_MAX: Duration = Duration::from_mins(5);
/// The longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// The steps of a command that runs as a sequence; `None` for other commands.
pub(super) fn steps_of(action: Option<&Action>) -> Option<&[pb::Step]> {
    match action {
        Some(Action::Install(install)) => Some(&install.steps),
        _ => None,
    }
}

/// Whether a failed command left changes that the agent could not undo.
pub(super) fn has_changes(record: &Record) -> bool {
    let is_undone = |step: &StepRecord| step.state == StepState::Undone;
    steps_of(record.command.action.as_ref()).is_some() && !record.steps.iter().all(is_undone)
}

impl Executor {
    /// Runs the steps of a command, or continues after a crash. The error is one of the journal; every other failure is
    /// in the result.
    pub(super) async fn run_steps(
        &self,
        node: NodeId,
        id: CommandId,
        record: &Record,
        steps: &[pb::Step],
    ) -> io::Result<ActionResult> {
        let root = match NodeRoot::open(&self.layout, node) {
            Ok(Some(root)) => root,
            Ok(None) => {
                let text = "the node has no folder on this machine; send `Prepare` first";
                return Ok(Err(failure("", text)));
            }
            Err(error) => {
                let text = format!("the agent can't open the node's folder: {error}");
                return Ok(Err(failure("", &text)));
            }
        };
        let sequence = Sequence {
            executor: self,
            root,
            id,
            steps,
            deadline: deadline(record),
        };
        let failure = match &record.phase {
            Phase::Undoing(failure) => failure.clone(),
            Phase::Forward | Phase::Finished(_) | Phase::Stored(..) => {
                match sequence.forward().await? {
                    Ok(()) => {
                        sequence.remove_backups();
                        return Ok(Ok(None));
                    }
                    Err(failure) => sequence.begin_undoing(failure).await?,
                }
            }
        };
        Ok(Err(sequence.backward(failure).await?))
    }
}

/// The steps of one command at one node.
struct Sequence<'a> {
    executor: &'a Executor,
    root: NodeRoot,
    id: CommandId,
    steps: &'a [pb::Step],
    deadline: Millis,
}

impl Sequence<'_> {
    async fn forward(&self) -> io::Result<Result<(), Failure>> {
        for (index, step) in self.steps.iter().enumerate() {
            if self.state(index) == Some(StepState::Finished) {
                continue;
            }
            let ctx = self.context(index);
            if let Err(error) = self.run_step(&ctx, index, step).await? {
                return Ok(Err(Failure {
                    step: step.name.clone(),
                    error: format!("{error:#}"),
                    output: ctx.report.output(),
                }));
            }
            self.set_state(index, StepState::Finished).await?;
            ctx.report.progress(Some(1.0), "done");
        }
        Ok(Ok(()))
    }

    /// Plans the step, writes the plan to the journal, and then runs the step unless it is done.
    async fn run_step(
        &self,
        ctx: &StepContext,
        index: usize,
        step: &pb::Step,
    ) -> io::Result<anyhow::Result<()>> {
        if self.deadline.since(time::now()).is_zero() {
            return Ok(Err(anyhow::anyhow!("the command's deadline has passed")));
        }
        let action = match step_of(step) {
            Ok(action) => action,
            Err(error) => return Ok(Err(error)),
        };
        if self.state(index).is_none() {
            let payload = match action.plan(ctx) {
                Ok(payload) => payload,
                Err(error) => return Ok(Err(error)),
            };
            let started = StepRecord {
                index,
                name: step.name.clone(),
                kind: action.kind().to_owned(),
                payload,
                state: StepState::Started,
            };
            self.executor
                .journal
                .update(self.id, |record| record.steps.push(started))
                .await?;
        }
        ctx.report.progress(None, "started");
        Ok(self.attempt(ctx, step, action).await)
    }

    async fn attempt(
        &self,
        ctx: &StepContext,
        step: &pb::Step,
        action: &dyn Step,
    ) -> anyhow::Result<()> {
        let retry = step.retry.unwrap_or_default();
        let limit = match step.timeout_ms {
            0 => STEP_DEFAULT,
            ms => Duration::from_millis(ms),
        };
        let mut attempt = 0;
        loop {
            if is_done(ctx, step, action).await? {
                return Ok(());
            }
            let limit = limit.min(self.deadline.since(time::now()));
            let executed = tokio::time::timeout(limit, action.execute(ctx)).await;
            let executed = executed.unwrap_or_else(|_| {
                let seconds = limit.as_secs_f32();
                Err(anyhow::anyhow!("the step did not end within {seconds} s"))
            });
            attempt += 1;
            let Err(error) = executed else { return Ok(()) };
            if attempt >= retry.attempts || self.deadline.since(time::now()).is_zero() {
                return Err(error);
            }
            ctx.report
                .progress(None, format!("attempt {attempt} failed: {error:#}"));
            ctx.report
                .print(&format!("attempt {attempt} failed: {error:#}\n"));
            let base = Duration::from_millis(retry.backoff_ms.max(100));
            time::sleep(time::backoff(base, BACKOFF_MAX, attempt - 1)).await;
        }
    }

    async fn begin_undoing(&self, failure: Failure) -> io::Result<Failure> {
        tracing::warn!(
            command.id = %self.id,
            step = failure.step,
            error = failure.error,
            "a step failed; the agent undoes the command"
        );
        let phase = Phase::Undoing(failure.clone());
        self.executor
            .journal
            .update(self.id, |record| record.phase = phase)
            .await?;
        Ok(failure)
    }

    /// Undoes the started steps in reverse order. Stops at a step that can't be undone and keeps the steps before it.
    async fn backward(&self, mut failure: Failure) -> io::Result<Failure> {
        let Some(record) = self.executor.journal.get(self.id) else {
            return Ok(failure);
        };
        let started = record.steps.iter().rev();
        for step in started.filter(|step| step.state != StepState::Undone) {
            if let Err(error) = self.undo_step(step).await {
                failure.error = format!(
                    "{}; and the {} step `{}` can't be undone: {error:#}; inspect the node's folder on the machine",
                    failure.error, step.kind, step.name
                );
                return Ok(failure);
            }
            self.set_state(step.index, StepState::Undone).await?;
        }
        self.remove_backups();
        Ok(failure)
    }

    async fn undo_step(&self, record: &StepRecord) -> anyhow::Result<()> {
        let step = self.steps.get(record.index);
        let action = step_of(step.context("the command has no such step")?)?;
        let ctx = self.context(record.index);
        let undone = tokio::time::timeout(UNDO_MAX, action.undo(&ctx, &record.payload)).await;
        undone.unwrap_or_else(|_| {
            let seconds = UNDO_MAX.as_secs();
            Err(anyhow::anyhow!("undoing did not end within {seconds} s"))
        })
    }

    fn state(&self, index: usize) -> Option<StepState> {
        let record = self.executor.journal.get(self.id)?;
        let mut steps = record.steps.iter();
        steps
            .find(|step| step.index == index)
            .map(|step| step.state)
    }

    async fn set_state(&self, index: usize, state: StepState) -> io::Result<()> {
        let change = |record: &mut Record| {
            for step in record.steps.iter_mut().filter(|step| step.index == index) {
                step.state = state;
            }
        };
        self.executor.journal.update(self.id, change).await
    }

    fn context(&self, index: usize) -> StepContext {
        let executor = self.executor;
        StepContext {
            root: self.root.clone(),
            adapters: Arc::clone(&executor.adapters),
            artefacts: Arc::clone(&executor.artefacts),
            http: executor.http.clone(),
            local_http: executor.local_http.clone(),
            gateway: executor.gateway.clone(),
            backup: self.backups().join(index.to_string()),
            report: self.report(index),
        }
    }

    fn report(&self, index: usize) -> Report {
        let lossy = self.executor.lossy.clone();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let step = self.steps.get(index);
        let base = pb::CommandProgress {
            command_id: self.id.to_string(),
            step: step.map(|step| step.name.clone()).unwrap_or_default(),
            step_index: count(index),
            step_count: count(self.steps.len()),
            ..Default::default()
        };
        Report::new(move |fraction, message| {
            let progress = pb::CommandProgress {
                fraction,
                message,
                ..base.clone()
            };
            // A full queue drops progress; the next report replaces it.
            let _ = lossy.try_send(Out::Progress(progress));
        })
    }

    fn backups(&self) -> PathBuf {
        Path::new(RUN_DIR).join("backups").join(self.id.to_string())
    }

    fn remove_backups(&self) {
        // Backups that stay only take space until the node is removed.
        let _ = self.root.remove(&self.backups());
    }
}

async fn is_done(ctx: &StepContext, step: &pb::Step, action: &dyn Step) -> anyhow::Result<bool> {
    if step.creates.is_empty() {
        return action.is_done(ctx).await;
    }
    Ok(ctx.root.dir.exists(checked(&step.creates)?))
}
