//! Runs commands: one at a time per node, different nodes side by side, each written down before it is begun.
//!
//! A command that a crash cut off is taken up again at its first unfinished step, or undone when its time is over.

mod control;
mod install;
mod ports;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host_domain::ids::{CommandId, NodeId};
use host_domain::time::Millis;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use proto::v1::command::Action;
use proto::v1::command_result::Outcome;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tonic::transport::Channel;

use crate::adapters::process::Supervisor;
use crate::journal::{Failure, Journal, Phase, Record};
use crate::layout::Layout;
use crate::steps::Artefacts;
use crate::tasks::Tasks;
use crate::time;

pub(crate) use ports::Ports;

/// Commands that run side by side.
const PARALLEL_MAX: usize = 4;
/// Commands that wait for one node; the host queues less.
const WAITING_MAX: usize = 200;
/// The time of a command that names no deadline.
const TIME_DEFAULT: Duration = Duration::from_hours(1);

/// Why a command is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Its ids are not ids.
    #[error("the command's ids are not UUIDs; the host and this agent don't fit together")]
    BadId(#[source] uuid::Error),
    /// The node has too many already.
    #[error("{WAITING_MAX} commands wait for the node already; the host delivers it again later")]
    Full,
    /// It can't be written down.
    #[error("the command can't be written down; check the disk")]
    Journal(#[source] io::Error),
}

/// Everything that commands work with.
pub(crate) struct Executor {
    pub(crate) layout: Layout,
    pub(crate) journal: Journal,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) ports: Ports,
    pub(crate) artefacts: Arc<Artefacts>,
    pub(crate) http: reqwest::Client,
    pub(crate) local_http: reqwest::Client,
    /// The channel to the host, while there is a session.
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    /// For progress; what does not fit is not told.
    pub(crate) tell: mpsc::Sender<Out>,
    /// Woken when there is a new result.
    pub(crate) finished: Notify,
    pub(crate) tasks: Tasks,
    pub(crate) queues: Mutex<BTreeMap<NodeId, VecDeque<CommandId>>>,
    pub(crate) permits: Semaphore,
}

/// What an executor is made of.
pub(crate) struct ExecutorParts {
    pub(crate) layout: Layout,
    pub(crate) artefact_bytes_max: u64,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) http: reqwest::Client,
    pub(crate) local_http: reqwest::Client,
    /// The channel to the host, while there is a session.
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    pub(crate) tell: mpsc::Sender<Out>,
    pub(crate) tasks: Tasks,
}

/// What an action came to.
type Ended = Result<Option<pb::Prepared>, Failure>;

impl Executor {
    /// Reads the journal and the ports of an earlier agent.
    pub(crate) fn open(parts: ExecutorParts) -> io::Result<Self> {
        let ExecutorParts {
            layout,
            artefact_bytes_max,
            supervisor,
            http,
            local_http,
            gateway,
            tell,
            tasks,
        } = parts;
        Ok(Self {
            journal: Journal::open(layout.clone())?,
            ports: Ports::open(layout.ports())?,
            artefacts: Arc::new(Artefacts::open(layout.artefacts(), artefact_bytes_max)?),
            layout,
            supervisor,
            http,
            local_http,
            gateway,
            tell,
            finished: Notify::new(),
            tasks,
            queues: Mutex::default(),
            permits: Semaphore::new(PARALLEL_MAX),
        })
    }

    /// Takes up what an earlier agent left unfinished.
    pub(crate) fn resume(self: &Arc<Self>) {
        for (id, record) in self.journal.unfinished() {
            tracing::info!(command.id = %id, "the command is taken up again");
            if let Ok(node) = record.command.node_id.parse() {
                self.enqueue(node, id);
            }
        }
    }

    /// Takes a command that the host delivers, perhaps again.
    pub(crate) async fn submit(self: &Arc<Self>, command: pb::Command) -> Result<(), Refused> {
        let id: CommandId = command.id.parse().map_err(Refused::BadId)?;
        let node: NodeId = command.node_id.parse().map_err(Refused::BadId)?;
        if self
            .lock()
            .get(&node)
            .is_some_and(|queue| queue.len() >= WAITING_MAX)
        {
            return Err(Refused::Full);
        }
        let accepted = self.journal.accept(id, command).await;
        if accepted.map_err(Refused::Journal)? || self.is_forgotten(node, id) {
            self.enqueue(node, id);
        } else {
            let reopened = self.journal.reopen(id).await;
            reopened.map_err(Refused::Journal)?;
            self.finished.notify_one();
        }
        Ok(())
    }

    /// Whether a command was written down and never queued: the session that brought it ended in between.
    fn is_forgotten(&self, node: NodeId, id: CommandId) -> bool {
        let is_absent = |queue: &VecDeque<CommandId>| !queue.contains(&id);
        let is_queued_nowhere = self.lock().get(&node).is_none_or(is_absent);
        is_queued_nowhere && self.journal.is_unfinished(id)
    }

    fn enqueue(self: &Arc<Self>, node: NodeId, id: CommandId) {
        let is_idle = {
            let mut queues = self.lock();
            let is_idle = !queues.contains_key(&node);
            queues.entry(node).or_default().push_back(id);
            is_idle
        };
        if is_idle {
            let executor = Arc::clone(self);
            self.tasks
                .spawn_until_stop(async move { executor.work(node).await });
        }
    }

    /// Works off one node's queue, and ends when it is empty.
    async fn work(&self, node: NodeId) {
        loop {
            let next = {
                let mut queues = self.lock();
                if let Some(id) = queues.get(&node).and_then(VecDeque::front).copied() {
                    id
                } else {
                    queues.remove(&node);
                    return;
                }
            };
            // The semaphore is never closed.
            let _permit = self.permits.acquire().await;
            if let Err(error) = self.run(node, next).await {
                // Without a journal nothing may be done; a restart takes the command up again.
                tracing::error!(command.id = %next, %error, "the journal can't be written; check the disk");
            }
            if let Some(queue) = self.lock().get_mut(&node) {
                queue.pop_front();
            }
        }
    }

    async fn run(&self, node: NodeId, id: CommandId) -> io::Result<()> {
        let Some(record) = self.journal.get(id) else {
            return Ok(());
        };
        tracing::info!(command.id = %id, node.id = %node, "the command begins");
        let ended = match &record.command.action {
            Some(Action::Install(install)) => self.install(node, id, &record, install).await?,
            Some(action) => self.control_in_time(node, id, &record, action).await,
            None => Err(failure(
                "",
                "this agent does not know the command; update the agent",
            )),
        };
        let result = result_of(id, &self.journal, ended);
        tracing::info!(command.id = %id, outcome = ?result.outcome(), error = result.error, "the command ended");
        self.journal
            .update(id, |record| record.phase = Phase::Finished(result))
            .await?;
        self.finished.notify_one();
        Ok(())
    }

    async fn control_in_time(
        &self,
        node: NodeId,
        id: CommandId,
        record: &Record,
        action: &Action,
    ) -> Ended {
        let left = deadline(record).since(time::now());
        let late = || {
            failure(
                "",
                "its time was over before it was done; send it again with more time",
            )
        };
        if left.is_zero() {
            return Err(late());
        }
        match tokio::time::timeout(left, self.control(node, id, action)).await {
            Ok(ended) => ended.map_err(|error| failure("", &format!("{error:#}"))),
            Err(_) => Err(late()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeId, VecDeque<CommandId>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a command's time is over.
fn deadline(record: &Record) -> Millis {
    match record.command.deadline_ms {
        0 => record.accepted_at.plus(TIME_DEFAULT),
        at => Millis(at),
    }
}

fn failure(step: &str, error: &str) -> Failure {
    Failure {
        step: step.to_owned(),
        error: error.to_owned(),
        output: String::new(),
    }
}

fn result_of(id: CommandId, journal: &Journal, ended: Ended) -> pb::CommandResult {
    let mut result = pb::CommandResult {
        command_id: id.to_string(),
        ..Default::default()
    };
    match ended {
        Ok(prepared) => {
            result.set_outcome(Outcome::Succeeded);
            result.prepared = prepared;
        }
        Err(failure) => {
            // What is still marked as begun or finished could not be undone.
            let is_stuck = journal
                .get(id)
                .is_some_and(|record| install::has_rest(&record));
            result.set_outcome(if is_stuck {
                Outcome::Stuck
            } else {
                Outcome::Failed
            });
            result.step = failure.step;
            result.error = failure.error;
            result.output = failure.output;
        }
    }
    result
}
