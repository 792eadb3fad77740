//! Plain process supervision: each process in a group of its own, which outlives the agent and is found again.
//!
//! One task (actor) per process owns its state; everyone else sends it a request or looks at its last status.
//! What should run is written down before anything is done, so that a new agent goes on where the old one ended.

mod actor;
mod alive;
mod find;
mod log;
mod record;
mod spawn;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::time::Millis;
use proto::v1 as pb;
use tokio::sync::{mpsc, oneshot, watch};

use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::tasks::Tasks;

pub(crate) use find::{MARKER, kill_in_own_group, kill_marked};
#[cfg(test)]
use record::RestartPolicy;
pub(crate) use record::{Desired, ProcessRecord, ProcessSpec};
pub(crate) use spawn::{Lock, take_lock};

/// Requests that wait for one process's task.
const REQUESTS_MAX: usize = 16;
/// The longest wait for an answer: the longest grace, and time to kill.
const ANSWER_MAX: Duration = Duration::from_mins(15);

/// Why a process could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProcessError {
    /// The program can't be run.
    #[error("process `{name}` can't be started; check that `{command}` exists and is executable")]
    Spawn {
        name: String,
        command: String,
        #[source]
        source: anyhow::Error,
    },
    /// Its files can't be read or written.
    #[error("the records of process `{name}` can't be read or written; check the disk")]
    Record {
        name: String,
        #[source]
        source: io::Error,
    },
    /// It can't be killed.
    #[error("process `{name}` still runs after SIGKILL; look at it on the machine")]
    WontDie { name: String },
    /// It holds keys and the host has not confirmed it.
    #[error(
        "process `{name}` holds keys and may run only while the host confirms the node; it starts by itself when the host does"
    )]
    NoLease { name: String },
    /// No answer in time.
    #[error("process `{name}` gave no answer; the agent is ending")]
    NoAnswer { name: String },
}

/// The state of a process, as the host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u32,
    pub(crate) started_at: Option<Millis>,
}

/// Where a process is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Stopped on purpose, or ended as its policy allows.
    #[default]
    Stopped,
    /// Running, or frozen.
    Running,
    /// Waiting for the next try.
    BackingOff,
    /// Its policy has given up.
    Failed,
}

type Reply = oneshot::Sender<Result<(), ProcessError>>;

/// What one can ask of a process's task.
pub(crate) enum Request {
    /// Run by this spec; done already when it runs by an equal one.
    Start(Box<ProcessSpec>, Reply),
    /// Stop, and stay stopped.
    Stop(Reply),
    /// Stop and forget.
    Remove(Reply),
}

#[derive(Clone)]
struct Handle {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Status>,
}

/// All processes of this agent's nodes.
pub(crate) struct Supervisor {
    handles: Mutex<BTreeMap<(NodeId, String), Handle>>,
    events: Arc<EventLog>,
    guard: Option<PathBuf>,
    tasks: Tasks,
}

impl Supervisor {
    /// Without processes; see [`Supervisor::resume`].
    pub(crate) fn new(events: Arc<EventLog>, guard: Option<PathBuf>, tasks: Tasks) -> Self {
        Self {
            handles: Mutex::default(),
            events,
            guard,
            tasks,
        }
    }

    /// Takes over the processes that a node's folder records: finds the running, starts those that should run.
    pub(crate) fn resume(&self, root: &NodeRoot) -> io::Result<()> {
        for record in record::load_all(root)? {
            let name = record.spec.name.clone();
            self.handle(root, &name, Some(record));
        }
        Ok(())
    }

    /// Starts a process; it runs when this returns.
    pub(crate) async fn start(
        &self,
        root: &NodeRoot,
        spec: ProcessSpec,
    ) -> Result<(), ProcessError> {
        let name = spec.name.clone();
        self.ask(root, &name, |reply| Request::Start(Box::new(spec), reply))
            .await
    }

    /// Stops a process; it and its descendants are gone when this returns.
    pub(crate) async fn stop(&self, root: &NodeRoot, name: &str) -> Result<(), ProcessError> {
        self.ask(root, name, Request::Stop).await
    }

    /// Stops a process and forgets it.
    pub(crate) async fn remove(&self, root: &NodeRoot, name: &str) -> Result<(), ProcessError> {
        self.ask(root, name, Request::Remove).await?;
        self.lock().remove(&(root.id, name.to_owned()));
        Ok(())
    }

    /// The records of a node's processes.
    pub(crate) fn records(root: &NodeRoot) -> io::Result<Vec<ProcessRecord>> {
        record::load_all(root)
    }

    /// One process's record.
    pub(crate) fn record(root: &NodeRoot, name: &str) -> io::Result<Option<ProcessRecord>> {
        record::load(root, name)
    }

    /// The state of one process; stopped when it is not known.
    pub(crate) fn status(&self, node: NodeId, name: &str) -> Status {
        let handles = self.lock();
        handles
            .get(&(node, name.to_owned()))
            .map(|h| h.status.borrow().clone())
            .unwrap_or_default()
    }

    /// The state of every process, by node, for the beat.
    pub(crate) fn statuses(&self) -> BTreeMap<NodeId, Vec<pb::ProcessStatus>> {
        let mut nodes: BTreeMap<NodeId, Vec<pb::ProcessStatus>> = BTreeMap::new();
        for ((node, name), handle) in self.lock().iter() {
            let status = handle.status.borrow().clone();
            nodes
                .entry(*node)
                .or_default()
                .push(status_message(name, &status));
        }
        nodes
    }

    async fn ask(
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

    fn handle(&self, root: &NodeRoot, name: &str, record: Option<ProcessRecord>) -> Handle {
        let mut handles = self.lock();
        let handle = handles
            .entry((root.id, name.to_owned()))
            .or_insert_with(|| {
                let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
                let (state, status) = watch::channel(Status::default());
                let actor = actor::Actor::new(actor::ActorParts {
                    root: root.clone(),
                    name: name.to_owned(),
                    events: self.events.clone(),
                    guard: self.guard.clone(),
                    status: state,
                });
                let stop = self.tasks.stop.clone();
                self.tasks.spawn(async move {
                    // Dropping the task where it waits leaves the process running: that is the point.
                    let _ = stop.run_until_cancelled(actor.run(inbox, record)).await;
                });
                Handle { requests, status }
            });
        handle.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, String), Handle>> {
        // The map is whole between any two statements, also after a panic elsewhere.
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status_message(name: &str, status: &Status) -> pb::ProcessStatus {
    use pb::process_status::State as S;
    let state = match status.state {
        State::Stopped => S::Stopped,
        State::Running => S::Running,
        State::BackingOff => S::BackingOff,
        State::Failed => S::Failed,
    };
    pb::ProcessStatus {
        name: name.to_owned(),
        state: state.into(),
        pid: status.pid.unwrap_or_default(),
        restarts: status.restarts,
        started_at_ms: status.started_at.unwrap_or_default().0,
    }
}

#[cfg(test)]
mod tests;
