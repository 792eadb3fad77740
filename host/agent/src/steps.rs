//! The types of steps. Each says what it will change, does it, checks whether it is done, and undoes it.
//!
//! The executor writes what [`Step::plan`] returns to the journal before the step changes anything. Undoing needs only
//! that payload, so it also undoes a step that a crash interrupted. Steps put things in place with one rename, so a step
//! is done when its result exists.
//!
//! A new type needs its own file here, a message in the protocol's `Step.action`, and one line in `registry.rs`.

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
mod registry;
mod report;
mod tool;
mod trace;
mod wait_for;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::adapters::Adapters;
use crate::journal::Payload;
use crate::node_root::NodeRoot;
use trace::Trace;

pub(crate) use artefacts::Artefacts;
pub(crate) use registry::step_of;
pub(crate) use report::Report;
pub(crate) use tool::kill_tools;

/// What a step does. Implemented by the protocol's message of each step type.
#[async_trait]
pub(crate) trait Step: Send + Sync {
    /// The name of the type in recipes and in the journal.
    fn kind(&self) -> &'static str;

    /// Returns what undoing needs to know. Rejects a step that can't succeed. Changes nothing in the node's folder but
    /// may save copies of what the step replaces.
    fn plan(&self, ctx: &StepContext) -> anyhow::Result<Payload>;

    /// Does the step. The executor may drop the future at any await point and call this again.
    async fn execute(&self, ctx: &StepContext) -> anyhow::Result<()>;

    /// Checks the system itself: whether the result of the step exists.
    async fn is_done(&self, ctx: &StepContext) -> anyhow::Result<bool>;

    /// Undoes the changes that `plan` announced, however many of them the step has made.
    async fn undo(&self, ctx: &StepContext, payload: &Payload) -> anyhow::Result<()> {
        let (root, trace) = (ctx.root.clone(), payload.read::<Trace>()?);
        tokio::task::spawn_blocking(move || trace.undo(&root))
            .await
            .context("undoing was interrupted")?
    }
}

/// What a step may use.
#[derive(Clone)]
pub(crate) struct StepContext {
    /// The node's folder.
    pub(crate) root: NodeRoot,
    /// Runs the node's processes.
    pub(crate) adapters: Arc<Adapters>,
    /// Downloads that nodes share.
    pub(crate) artefacts: Arc<Artefacts>,
    /// For downloads.
    pub(crate) http: reqwest::Client,
    /// For requests to the node itself.
    pub(crate) local_http: reqwest::Client,
    /// The channel to the host, while there is a session.
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    /// Where this step keeps copies of what it replaces, relative to the node's folder.
    pub(crate) backup: PathBuf,
    /// For progress and output.
    pub(crate) report: Report,
}
