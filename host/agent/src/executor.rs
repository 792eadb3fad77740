//! Runs commands: one at a time for each node, and different nodes in parallel. The journal records each command first.
//!
//! After a crash, the executor resumes a command at its first unfinished step, or undoes it after its deadline.

mod control;
mod ports;
mod sequence;

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

use crate::adapters::Adapters;
use crate::journal::{Failure, Journal, Phase, Record};
use crate::layout::Layout;
use crate::steps::Artefacts;
use crate::tasks::Tasks;
use crate::time;

use ports::Ports;

/// Commands that run in parallel.
const PARALLEL_MAX: usize = 4;
/// Commands that wait for one node. The host queues fewer.
const QUEUE_MAX: usize = 200;
/// The time limit of a command without a deadline.
const TIME_DEFAULT: Duration = Duration::from_hours(1);

/// Why the executor rejects a command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmitError {
    /// Its ids are not UUIDs.
    #[error(
        "the ids of the command are not UUIDs; update the host and this agent to the same version"
    )]
    BadId(#[source] uuid::Error),
    /// The node's queue is full.
    #[error("{QUEUE_MAX} commands already wait for the node; the host will deliver this one again")]
    Full,
    /// The agent can't record the command.
    #[error("the agent can't write its journal; check the disk")]
    Journal(#[source] io::Error),
}

/// Runs the commands of all nodes.
pub(crate) struct Executor {
    layout: Layout,
    pub(crate) journal: Journal,
    adapters: Arc<Adapters>,
    ports: Ports,
    artefacts: Arc<Artefacts>,
    http: reqwest::Client,
    local_http: reqwest::Client,
    gateway: watch::Receiver<Option<Channel>>,
    lossy: mpsc::Sender<Out>,
    /// Notified of each new result.
    pub(crate) finished: Notify,
    tasks: Tasks,
    queues: Mutex<BTreeMap<NodeId, VecDeque<CommandId>>>,
    permits: Semaphore,
}

/// The dependencies of an executor.
pub(crate) struct ExecutorParts {
    pub(crate) layout: Layout,
    pub(crate) artefact_bytes_max: u64,
    pub(crate) adapters: Arc<Adapters>,
    /// For downloads.
    pub(crate) http: reqwest::Client,
    /// For requests to nodes on this machine.
    pub(crate) local_http: reqwest::Client,
    /// The channel to the host, while there is a session.
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    /// For progress. A full queue drops it.
    pub(crate) lossy: mpsc::Sender<Out>,
    pub(crate) tasks: Tasks,
}

/// The result of a command's action.
type ActionResult = Result<Option<pb::Prepared>, Failure>;

impl Executor {
    /// Reads the journal and the ports of the previous agent process.
    pub(crate) fn open(parts: ExecutorParts) -> io::Result<Self> {
        let ExecutorParts {
            layout,
            artefact_bytes_max,
            adapters,
            http,
            local_http,
            gateway,
            lossy,
            tasks,
        } = parts;
        Ok(Self {
            journal: Journal::open(layout.clone())?,
            ports: Ports::open(layout.ports())?,
            artefacts: Arc::new(Artefacts::open(layout.artefacts(), artefact_bytes_max)?),
            layout,
            adapters,
            http,
            local_http,
            gateway,
            lossy,
            finished: Notify::new(),
            tasks,
            queues: Mutex::default(),
            permits: Semaphore::new(PARALLEL_MAX),
        })
    }

    /// Resumes the unfinished commands of the previous agent process.
    pub(crate) fn resume(self: &Arc<Self>) {
        for (id, record) in self.journal.unfinished() {
            tracing::info!(command.id = %id, "the agent resumes the command");
            if let Ok(node) = record.command.node_id.parse() {
                self.enqueue(node, id);
            }
        }
    }

    /// Accepts a command. The host may deliver it more than once.
    pub(crate) async fn submit(self: &Arc<Self>, command: pb::Command) -> Result<(), SubmitError> {
        let id: CommandId = command.id.parse().map_err(SubmitError::BadId)?;
        let node: NodeId = command.node_id.parse().map_err(SubmitError::BadId)?;
        if self
            .lock()
            .get(&node)
            .is_some_and(|queue| queue.len() >= QUEUE_MAX)
        {
            return Err(SubmitError::Full);
        }
        let accepted = self.journal.accept(id, command).await;
        if accepted.map_err(SubmitError::Journal)? || self.is_orphaned(node, id) {
            self.enqueue(node, id);
        } else {
            let reopened = self.journal.reopen(id).await;
            reopened.map_err(SubmitError::Journal)?;
            self.finished.notify_one();
        }
        Ok(())
    }

    /// Whether the journal has a command that was never queued, because its session ended in between.
    fn is_orphaned(&self, node: NodeId, id: CommandId) -> bool {
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

    /// Runs the commands of one node until its queue is empty.
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
                // Nothing may run without a journal. A restart of the agent resumes the command.
                tracing::error!(command.id = %next, %error, "the agent can't write its journal; check the disk and restart the agent");
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
        tracing::info!(command.id = %id, node.id = %node, "the command starts");
        let action = record.command.action.as_ref();
        let ended = match (sequence::steps_of(action), action) {
            (Some(steps), _) => self.run_steps(node, id, &record, steps).await?,
            (None, Some(action)) => self.control_in_time(node, id, &record, action).await,
            (None, None) => Err(failure(
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
    ) -> ActionResult {
        let left = deadline(record).since(time::now());
        let late = || {
            failure(
                "",
                "the command did not end before its deadline; send it again with a later one",
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

/// The deadline of a command.
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

fn result_of(id: CommandId, journal: &Journal, ended: ActionResult) -> pb::CommandResult {
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
            let is_stuck = journal
                .get(id)
                .is_some_and(|record| sequence::has_changes(&record));
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
