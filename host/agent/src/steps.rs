//! The steps of recipes. Each type says what it will touch, does it, tells whether it is done, and undoes it.
//!
//! A step's trace is written down before the step touches anything; undoing works from the trace alone, so it
//! also undoes what a crash cut off half-way. Steps put things in place by one rename, so "is it there" means done.

mod artefacts;
mod binary;
mod directory;
mod download;
mod extract;
mod file;
mod integrity;
mod key;
mod package;
mod process;
mod tool;
mod trace;
mod wait_for;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use proto::v1 as pb;
use proto::v1::step::Action;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::adapters::process::Supervisor;
use crate::node_root::NodeRoot;

pub(crate) use artefacts::Artefacts;
pub(crate) use trace::Trace;

/// What a step may use.
#[derive(Clone)]
pub(crate) struct StepContext {
    /// The node's folder.
    pub(crate) root: NodeRoot,
    /// The processes of this agent.
    pub(crate) supervisor: Arc<Supervisor>,
    /// Downloads that nodes share.
    pub(crate) artefacts: Arc<Artefacts>,
    /// For downloads.
    pub(crate) http: reqwest::Client,
    /// For questions to the node itself.
    pub(crate) local_http: reqwest::Client,
    /// The channel to the host, while there is a session.
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    /// Where this step keeps what it replaces, relative to the node's folder.
    pub(crate) saved: PathBuf,
    /// What the step tells while it runs.
    pub(crate) report: Report,
}

/// What a step tells while it runs.
#[derive(Clone)]
pub(crate) struct Report {
    progress: Arc<dyn Fn(Option<f64>, String) + Send + Sync>,
    output: Arc<Mutex<String>>,
}

/// Bytes of output that are kept.
const OUTPUT_MAX: usize = 4 * 1024;

impl Report {
    /// `progress` is called with the fraction that is done and a message.
    pub(crate) fn new(progress: impl Fn(Option<f64>, String) + Send + Sync + 'static) -> Self {
        Self {
            progress: Arc::new(progress),
            output: Arc::default(),
        }
    }

    /// Tells how far the step is.
    pub(crate) fn progress(&self, fraction: Option<f64>, message: impl Into<String>) {
        (self.progress)(fraction, message.into());
    }

    /// Adds to the output, of which the end is kept.
    pub(crate) fn print(&self, text: &str) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(text);
        let surplus = output.len().saturating_sub(OUTPUT_MAX);
        if let Some(cut) = (surplus..output.len()).find(|at| output.is_char_boundary(*at)) {
            output.drain(..cut);
        }
    }

    /// The end of the output.
    pub(crate) fn output(&self) -> String {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What the step will touch. Refuses a step that can't be right.
pub(crate) fn plan(ctx: &StepContext, step: &pb::Step) -> anyhow::Result<Trace> {
    match action(step)? {
        Action::Package(spec) => package::plan(ctx, spec),
        Action::Directory(spec) => directory::plan(ctx, spec),
        Action::File(spec) => file::plan(ctx, spec),
        Action::Download(spec) => download::plan(ctx, spec),
        Action::Extract(spec) => extract::plan(ctx, spec),
        Action::Binary(spec) => binary::plan(ctx, spec),
        Action::Process(spec) => process::plan(ctx, spec),
        Action::Key(spec) => key::plan(ctx, spec),
        Action::WaitFor(_) => Ok(Trace::default()),
    }
}

/// Does the step. May be dropped wherever it waits, and run again.
pub(crate) async fn execute(ctx: &StepContext, step: &pb::Step) -> anyhow::Result<()> {
    match action(step)? {
        Action::Package(spec) => package::execute(ctx, spec).await,
        Action::Directory(spec) => directory::execute(ctx, spec),
        Action::File(spec) => file::execute(ctx, spec),
        Action::Download(spec) => download::execute(ctx, spec).await,
        Action::Extract(spec) => extract::execute(ctx, spec).await,
        Action::Binary(spec) => binary::execute(ctx, spec),
        Action::Process(spec) => process::execute(ctx, spec).await,
        Action::Key(spec) => key::execute(ctx, spec).await,
        Action::WaitFor(spec) => wait_for::execute(ctx, spec).await,
    }
}

/// Looks at the system itself: is what the step makes there?
pub(crate) async fn is_done(ctx: &StepContext, step: &pb::Step) -> anyhow::Result<bool> {
    if !step.creates.is_empty() {
        let path = crate::node_root::checked(&step.creates)?;
        return Ok(ctx.root.dir.exists(path));
    }
    match action(step)? {
        Action::Package(spec) => package::is_done(ctx, spec),
        Action::Directory(spec) => directory::is_done(ctx, spec),
        Action::File(spec) => file::is_done(ctx, spec),
        Action::Download(spec) => download::is_done(ctx, spec).await,
        Action::Extract(spec) => extract::is_done(ctx, spec),
        Action::Binary(spec) => binary::is_done(ctx, spec),
        Action::Process(spec) => process::is_done(ctx, spec),
        Action::Key(spec) => key::is_done(ctx, spec),
        // Waiting is a look at the system.
        Action::WaitFor(_) => Ok(false),
    }
}

/// Undoes what the trace says, however far the step came.
pub(crate) async fn undo(ctx: &StepContext, trace: &Trace) -> anyhow::Result<()> {
    if let Some(process) = &trace.process {
        process::undo(ctx, process).await?;
    }
    let (root, trace) = (ctx.root.clone(), trace.clone());
    tokio::task::spawn_blocking(move || trace.undo(&root))
        .await
        .context("undoing broke off")?
}

fn action(step: &pb::Step) -> anyhow::Result<&Action> {
    step.action.as_ref().with_context(|| {
        format!(
            "step `{}` has a type that this agent does not know; update the agent",
            step.name
        )
    })
}
