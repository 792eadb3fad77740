//! The adapter `process`: supervises plain processes. It needs neither root nor systemd nor Docker.
//!
//! Each process has a group of its own, which outlives the agent. One task (actor) owns the state of each process;
//! everyone else sends it requests or reads its last status. The actor writes the desired state to disk before it acts,
//! so that the next agent continues where this one stopped.

mod actor;
mod guard;
mod live;
mod log;
mod spawn;
mod spec;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use host_domain::ids::NodeId;
use proto::v1 as pb;
use proto::v1::process_status::State;
use tokio::sync::{mpsc, oneshot, watch};

use super::record::{DesiredState, ProcessRecord};
use super::{AdapterParts, RuntimeAdapter, Status};
use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::tasks::Tasks;

use spec::{ManagedProcess, ProcessSpec};

pub use guard::answer_guard;

/// Requests that wait for one process's actor.
const REQUESTS_MAX: usize = 16;
/// The longest wait for an answer: the longest grace period, and time to kill.
const ANSWER_MAX: Duration = Duration::from_mins(15);

/// Why a process could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The program can't be run.
    #[error("process `{name}` failed to start; check that `{command}` exists and is executable")]
    Spawn {
        name: String,
        command: String,
        #[source]
        source: anyhow::Error,
    },
    /// Its files can't be read or written.
    #[error("the agent can't read or write the records of process `{name}`; check the disk")]
    Record {
        name: String,
        #[source]
        source: io::Error,
    },
    /// It can't be killed.
    #[error("process `{name}` is still running after SIGKILL; inspect it on the machine")]
    WontDie { name: String },
    /// It holds keys and has no lease.
    #[error(
        "process `{name}` holds keys and may run only while the host confirms the node; \
         the agent starts it as soon as the host does"
    )]
    NoLease { name: String },
    /// The actor did not answer in time.
    #[error("the agent is shutting down and did not handle process `{name}`")]
    NoAnswer { name: String },
}

type Reply = oneshot::Sender<Result<(), ProcessError>>;

/// A request to the actor of a process.
enum Request {
    /// Run the process with these settings. A process that already runs with equal settings keeps running.
    Start(Box<ManagedProcess>, Reply),
    /// Stop the process and keep it stopped.
    Stop(Reply),
    /// Stop the process and delete its files.
    Remove(Reply),
}

#[derive(Clone)]
struct Handle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
}

/// The processes of this agent's nodes.
pub(super) struct Supervisor {
    handles: Mutex<BTreeMap<(NodeId, String), Handle>>,
    events: Arc<EventLog>,
    guard: Option<PathBuf>,
    tasks: Tasks,
}

#[async_trait]
impl RuntimeAdapter for Supervisor {
    fn name(&self) -> &'static str {
        "process"
    }

    fn check(&self, process: &pb::Process) -> anyhow::Result<()> {
        ProcessSpec::try_from(process)?;
        Ok(())
    }

    fn resume(&self, root: &NodeRoot, record: ProcessRecord) -> io::Result<()> {
        let process = ManagedProcess::new(record).map_err(io::Error::other)?;
        let name = process.spec.name.clone();
        self.handle(root, &name, Some(process));
        Ok(())
    }

    async fn start(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<()> {
        let process = ManagedProcess::new(ProcessRecord {
            process: process.clone(),
            desired: DesiredState::Running,
        })?;
        let name = process.spec.name.clone();
        self.request(root, &name, |reply| {
            Request::Start(Box::new(process), reply)
        })
        .await?;
        Ok(())
    }

    async fn stop(&self, root: &NodeRoot, name: &str) -> anyhow::Result<()> {
        self.request(root, name, Request::Stop).await?;
        Ok(())
    }

    async fn remove(&self, root: &NodeRoot, name: &str) -> anyhow::Result<()> {
        self.request(root, name, Request::Remove).await?;
        self.lock().remove(&(root.id, name.to_owned()));
        Ok(())
    }

    fn is_running(&self, root: &NodeRoot, process: &pb::Process) -> anyhow::Result<bool> {
        let spec = ProcessSpec::try_from(process)?;
        let known = ManagedProcess::load(root, &spec.name)?;
        let is_same = known.is_some_and(|known| known.spec == spec);
        Ok(is_same && self.status(root.id, &spec.name).state == State::Running)
    }

    fn statuses(&self) -> Vec<(NodeId, Status)> {
        let handles = self.lock();
        let status = |((node, _), handle): (&(NodeId, String), &Handle)| {
            (*node, handle.status.borrow().clone())
        };
        handles.iter().map(status).collect()
    }
}

impl Supervisor {
    /// A supervisor without processes.
    pub(super) fn new(parts: &AdapterParts) -> Self {
        Self {
            handles: Mutex::default(),
            events: Arc::clone(&parts.events),
            guard: parts.guard.clone(),
            tasks: parts.tasks.clone(),
        }
    }

    /// The status of one process; stopped when the process is unknown.
    fn status(&self, node: NodeId, name: &str) -> Status {
        let handles = self.lock();
        match handles.get(&(node, name.to_owned())) {
            Some(handle) => handle.status.borrow().clone(),
            None => Status::stopped(name),
        }
    }

    async fn request(
        &self,
        root: &NodeRoot,
        name: &str,
        request: impl FnOnce(Reply) -> Request,
    ) -> Result<(), ProcessError> {
        let no_answer = || ProcessError::NoAnswer {
            name: name.to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        let handle = self.handle(root, name, None);
        handle
            .requests
            .send(request(reply))
            .await
            .map_err(|_| no_answer())?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(no_answer()),
        }
    }

    fn handle(&self, root: &NodeRoot, name: &str, process: Option<ManagedProcess>) -> Handle {
        let mut handles = self.lock();
        let handle = handles
            .entry((root.id, name.to_owned()))
            .or_insert_with(|| {
                let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
                let (publish, status) = watch::channel(Status::stopped(name));
                let actor = actor::Actor::new(actor::ActorParts {
                    root: root.clone(),
                    name: name.to_owned(),
                    events: self.events.clone(),
                    guard: self.guard.clone(),
                    status: publish,
                });
                let stop = self.tasks.stop.clone();
                self.tasks.spawn(async move {
                    // Dropping the actor leaves the process running, which is intended.
                    let _ = stop.run_until_cancelled(actor.run(inbox, process)).await;
                });
                Handle { requests, status }
            });
        handle.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, String), Handle>> {
        // Every statement leaves the map consistent, so a panic elsewhere can't have damaged it.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
