//! Runtime adapters: what runs the processes of nodes. The chain's profile names the adapter of each process.
//!
//! [`Adapters`] is the only way to a process from outside this folder, so a new adapter changes no caller. It needs its
//! own folder here and one line in [`Adapters::new`].

mod process;
mod record;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use host_domain::ids::NodeId;
use host_domain::time::Millis;
use proto::v1 as pb;
use proto::v1::process_status::State;

use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::tasks::Tasks;

pub use process::answer_guard;
pub(crate) use record::{DesiredState, ProcessRecord};

/// Runs processes that outlive the agent, and finds them again after a restart of the agent.
///
/// A `process` that a method gets names this adapter. Calls for one node come one at a time.
#[async_trait]
pub(crate) trait RuntimeAdapter: Send + Sync {
    /// The name by which profiles choose this adapter.
    fn name(&self) -> &'static str;

    /// Rejects a process that this adapter can't run.
    fn check(&self, process: &pb::Process) -> anyhow::Result<()>;

    /// Takes over a process of the previous agent process: finds it if it runs, and brings it to its desired state.
    fn resume(&self, root: &NodeRoot, record: ProcessRecord) -> io::Result<()>;

    /// Starts a process and writes its record. A process that runs with other settings is stopped first.
    async fn start(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<()>;

    /// Stops a process and its descendants. It stays stopped.
    async fn stop(&self, root: &NodeRoot, name: &str) -> anyhow::Result<()>;

    /// Stops a process and deletes its record.
    async fn remove(&self, root: &NodeRoot, name: &str) -> anyhow::Result<()>;

    /// Whether the process runs with exactly these settings.
    fn is_running(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<bool>;

    /// The status of every process of this adapter.
    fn statuses(&self) -> Vec<(NodeId, Status)>;
}

/// The status of one process, as the host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u32,
    pub(crate) started_at: Option<Millis>,
}

impl Status {
    /// A process that does not run.
    pub(crate) fn stopped(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Stopped,
            pid: None,
            restarts: 0,
            started_at: None,
        }
    }
}

/// The dependencies of adapters.
pub(crate) struct AdapterParts {
    pub(crate) events: Arc<EventLog>,
    /// The program that enforces leases; the running program when `None`.
    pub(crate) guard: Option<PathBuf>,
    pub(crate) tasks: Tasks,
}

/// The registry of adapters. It passes each request to the adapter that the process names.
pub(crate) struct Adapters {
    all: Vec<Box<dyn RuntimeAdapter>>,
}

impl Adapters {
    /// All adapters, one line each.
    pub(crate) fn new(parts: &AdapterParts) -> Self {
        Self {
            all: vec![Box::new(process::Supervisor::new(parts))],
        }
    }

    /// Rejects a process that no adapter can run.
    pub(crate) fn check(&self, process: &pb::Process) -> anyhow::Result<()> {
        self.of(process)?.check(process)
    }

    /// Takes over the processes that an earlier agent ran for a node.
    pub(crate) fn resume(&self, root: &NodeRoot) -> anyhow::Result<()> {
        for record in record::load_all(root)? {
            self.of(&record.process)?.resume(root, record)?;
        }
        Ok(())
    }

    /// Starts a process. It runs when this returns.
    pub(crate) async fn start(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<()> {
        let adapter = self.of(process)?;
        // Two adapters must never run the same process.
        if let Some(old) = record::load(root, &process.name)?
            && old.process.adapter != process.adapter
        {
            self.remove(root, &old.process).await?;
        }
        adapter.start(root, process).await
    }

    /// Stops a process. It and its descendants have ended when this returns.
    pub(crate) async fn stop(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<()> {
        self.of(process)?.stop(root, &process.name).await
    }

    /// Stops a process and deletes its record.
    pub(crate) async fn remove(
        &self,
        root: &NodeRoot,
        process: &pb::Process,
    ) -> anyhow::Result<()> {
        self.of(process)?.remove(root, &process.name).await
    }

    /// Whether the process runs with exactly these settings.
    pub(crate) fn is_running(
        &self,
        root: &NodeRoot,
        process: &pb::Process,
    ) -> anyhow::Result<bool> {
        self.of(process)?.is_running(root, process)
    }

    /// The records of a node's processes, by name.
    pub(crate) fn records(root: &NodeRoot) -> io::Result<Vec<ProcessRecord>> {
        record::load_all(root)
    }

    /// The record of one process.
    pub(crate) fn record(root: &NodeRoot, name: &str) -> io::Result<Option<ProcessRecord>> {
        record::load(root, name)
    }

    /// The status of every process, by node.
    pub(crate) fn statuses(&self) -> BTreeMap<NodeId, Vec<pb::ProcessStatus>> {
        let mut nodes: BTreeMap<NodeId, Vec<pb::ProcessStatus>> = BTreeMap::new();
        for (node, status) in self.all.iter().flat_map(|adapter| adapter.statuses()) {
            nodes.entry(node).or_default().push(status.into());
        }
        nodes
    }

    fn of(&self, process: &pb::Process) -> anyhow::Result<&dyn RuntimeAdapter> {
        let adapter = self.all.iter().find(|one| one.name() == process.adapter);
        adapter.map(|one| &**one).with_context(|| {
            let known: Vec<_> = self.all.iter().map(|one| one.name()).collect();
            format!(
                "process `{}` needs the runtime adapter `{}`, but this agent has only {}; \
                 update the agent or change `process.adapter` in runtime.yaml",
                process.name,
                process.adapter,
                known.join(", ")
            )
        })
    }
}

impl From<Status> for pb::ProcessStatus {
    fn from(status: Status) -> Self {
        Self {
            name: status.name,
            state: status.state.into(),
            pid: status.pid.unwrap_or_default(),
            restarts: status.restarts,
            started_at_ms: status.started_at.unwrap_or_default().0,
        }
    }
}

#[cfg(test)]
mod tests;
