//! The task that owns one process: starts it, notices its end, restarts it by its policy, stops it.
//!
//! It holds no state that a new agent could not find again on the disk or ask the kernel for.

mod life;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Millis;
use tokio::sync::{mpsc, watch};

use super::alive::{Alive, Exit};
use super::record::{self, Desired, ProcessRecord, ProcessSpec, RestartPolicy};
use super::spawn::{Lock, marker, take_lock};
use super::{ProcessError, Request, State, Status, find, log};
use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::{lease, time};

/// Restarts are counted within this time.
const RESTART_WINDOW: Duration = Duration::from_mins(10);
/// How often logs are looked at for rotation.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// How often a process without a lease looks for one.
const LEASE_LOOK: Duration = Duration::from_secs(1);
/// How long descendants may outlive their leader on their own.
const REST_GRACE: Duration = Duration::from_millis(500);

/// What an actor is made of.
pub(super) struct ActorParts {
    pub(super) root: NodeRoot,
    pub(super) name: String,
    pub(super) events: Arc<EventLog>,
    pub(super) guard: Option<PathBuf>,
    pub(super) status: watch::Sender<Status>,
}

pub(super) struct Actor {
    root: NodeRoot,
    name: String,
    events: Arc<EventLog>,
    /// The program that guards processes with keys.
    guard: Option<PathBuf>,
    status: watch::Sender<Status>,
    record: Option<ProcessRecord>,
    phase: Phase,
    restarts: u32,
    recent: VecDeque<Millis>,
    streak: u32,
}

enum Phase {
    Idle(State),
    Alive(Box<Alive>),
    Waiting { until: Millis },
}

enum Happened {
    Ended(Exit),
    Due,
}

impl Actor {
    pub(super) fn new(parts: ActorParts) -> Self {
        let ActorParts {
            root,
            name,
            events,
            guard,
            status,
        } = parts;
        let phase = Phase::Idle(State::Stopped);
        let (record, recent) = (None, VecDeque::new());
        Self {
            root,
            name,
            events,
            guard,
            status,
            record,
            phase,
            restarts: 0,
            recent,
            streak: 0,
        }
    }

    /// Runs until the process is removed; dropping it leaves the process alone.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Request>,
        record: Option<ProcessRecord>,
    ) {
        if let Some(record) = record {
            self.resume(record).await;
        }
        let lock = self.lock_path();
        loop {
            self.publish();
            tokio::select! {
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    if self.answer(request).await.is_break() {
                        return;
                    }
                }
                happened = self.phase.next(&self.root, &lock) => match happened {
                    Happened::Ended(exit) => self.on_end(exit).await,
                    Happened::Due => self.retry().await,
                },
                () = time::sleep(ROTATE_EVERY) => self.rotate().await,
            }
        }
    }

    async fn answer(&mut self, request: Request) -> ControlFlow<()> {
        let (reply, result) = match request {
            Request::Start(spec, reply) => (reply, self.start(*spec).await),
            Request::Stop(reply) => (reply, self.stop().await),
            Request::Remove(reply) => {
                let removed = match self.stop().await {
                    Ok(()) => record::remove(&self.root, &self.name).map_err(|e| self.broken(e)),
                    Err(error) => Err(error),
                };
                let ends = removed.is_ok();
                let _ = reply.send(removed);
                return if ends {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                };
            }
        };
        self.publish();
        // Whoever asked may have given up waiting; the process is as asked all the same.
        let _ = reply.send(result);
        ControlFlow::Continue(())
    }

    async fn start(&mut self, spec: ProcessSpec) -> Result<(), ProcessError> {
        if self.record.is_none() {
            self.record = record::load(&self.root, &self.name).map_err(|e| self.broken(e))?;
        }
        let same = self
            .record
            .as_ref()
            .is_some_and(|record| record.spec == spec);
        if matches!(self.phase, Phase::Alive(_)) {
            if same {
                return Ok(());
            }
            self.stop().await?;
        }
        let record = ProcessRecord {
            spec,
            desired: Desired::Running,
        };
        record::save(&self.root, &record).map_err(|e| self.broken(e))?;
        self.record = Some(record.clone());
        (self.streak, self.restarts) = (0, 0);
        self.recent.clear();
        let launched = self.launch(&record.spec, "process_started").await;
        match &launched {
            Ok(()) => {}
            // It should run, and does as soon as it may.
            Err(ProcessError::NoLease { .. }) => self.wait_for_lease(),
            Err(_) => self.phase = Phase::Idle(State::Failed),
        }
        launched
    }

    /// Goes on after a restart of the agent.
    async fn resume(&mut self, record: ProcessRecord) {
        self.record = Some(record.clone());
        let held = matches!(take_lock(&self.root, &self.lock_path()), Ok(Lock::Held));
        match record.desired {
            Desired::Stopped if held => {
                self.phase = Phase::Alive(Box::new(self.found()));
                if let Err(error) = self.stop().await {
                    self.events
                        .record(self.root.id, "process_exited", error.to_string());
                }
            }
            Desired::Stopped => {}
            Desired::Running => self.resume_running(&record.spec, held).await,
        }
    }

    async fn resume_running(&mut self, spec: &ProcessSpec, held: bool) {
        let had_run = record::load_pid(&self.root, &self.name)
            .ok()
            .flatten()
            .is_some();
        if !held && had_run {
            self.tell("process_exited", "ended while no agent watched it");
            if spec.restart == RestartPolicy::Never {
                self.phase = Phase::Idle(State::Stopped);
                return;
            }
        }
        let kind = if had_run {
            "process_restarted"
        } else {
            "process_started"
        };
        match self.launch(spec, kind).await {
            Ok(()) => {}
            Err(ProcessError::NoLease { .. }) => self.wait_for_lease(),
            Err(error) => {
                tracing::warn!(node.id = %self.root.id, process = self.name, %error, "not started");
                self.schedule(spec);
            }
        }
    }

    /// Looks again soon: it is not the process that is at fault.
    fn wait_for_lease(&mut self) {
        self.phase = Phase::Waiting {
            until: time::now().plus(LEASE_LOOK),
        };
    }

    async fn stop(&mut self) -> Result<(), ProcessError> {
        if self.record.is_none() {
            self.record = record::load(&self.root, &self.name).map_err(|e| self.broken(e))?;
        }
        let mut grace = Duration::from_secs(10);
        if let Some(mut record) = self.record.take() {
            record.desired = Desired::Stopped;
            let saved = record::save(&self.root, &record).map_err(|e| self.broken(e));
            grace = record.spec.stop_grace();
            self.record = Some(record);
            saved?;
        }
        if let Phase::Alive(mut alive) =
            std::mem::replace(&mut self.phase, Phase::Idle(State::Stopped))
        {
            let ended = self.end(&mut alive, grace).await;
            if ended.is_err() {
                self.phase = Phase::Alive(alive);
            }
            let exit = ended?;
            self.tell("process_exited", &format!("stopped: {}", exit.text));
        }
        Ok(())
    }

    async fn on_end(&mut self, exit: Exit) {
        let Phase::Alive(alive) = std::mem::replace(&mut self.phase, Phase::Idle(State::Stopped))
        else {
            return;
        };
        let pid = alive.pid.unwrap_or_default();
        if lease::may_start(&self.root) {
            self.tell("process_exited", &format!("pid {pid} {}", exit.text));
        } else {
            let why =
                "it holds keys, and the host did not confirm in time that the node is still here";
            self.tell("process_fenced", &format!("pid {pid} was stopped: {why}"));
        }
        if !self.is_free_within(REST_GRACE).await {
            find::kill_marked(&marker(&self.root, &self.name));
        }
        let Some(spec) = self.record.as_ref().map(|record| record.spec.clone()) else {
            return;
        };
        if time::now().since(alive.started_at) > Duration::from_millis(spec.backoff_max_ms) {
            self.streak = 0;
        }
        match (spec.restart, exit.success) {
            (RestartPolicy::Never, Some(false)) => self.phase = Phase::Idle(State::Failed),
            (RestartPolicy::Never, _) | (RestartPolicy::OnFailure, Some(true)) => {}
            (RestartPolicy::Always | RestartPolicy::OnFailure, _) => self.schedule(&spec),
        }
    }

    /// Plans the next start, or gives up.
    fn schedule(&mut self, spec: &ProcessSpec) {
        let now = time::now();
        while self
            .recent
            .front()
            .is_some_and(|at| now.since(*at) > RESTART_WINDOW)
        {
            self.recent.pop_front();
        }
        let n_recent = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        if spec.restarts_max > 0 && n_recent >= spec.restarts_max {
            self.phase = Phase::Idle(State::Failed);
            self.tell(
                "process_gave_up",
                &format!("{n_recent} restarts within ten minutes did not help"),
            );
            return;
        }
        let (base, max) = (
            Duration::from_millis(spec.backoff_ms),
            Duration::from_millis(spec.backoff_max_ms),
        );
        self.phase = Phase::Waiting {
            until: now.plus(time::backoff(base, max, self.streak)),
        };
        self.streak = self.streak.saturating_add(1);
    }

    async fn retry(&mut self) {
        let Some(spec) = self.record.as_ref().map(|record| record.spec.clone()) else {
            return;
        };
        if !lease::may_start(&self.root) {
            return self.wait_for_lease();
        }
        self.restarts = self.restarts.saturating_add(1);
        self.recent.push_back(time::now());
        if let Err(error) = self.launch(&spec, "process_restarted").await {
            tracing::warn!(node.id = %self.root.id, process = self.name, %error, "not restarted");
            self.schedule(&spec);
        }
    }

    async fn rotate(&self) {
        let (Phase::Alive(_), Some(record)) = (&self.phase, &self.record) else {
            return;
        };
        let (root, spec) = (self.root.clone(), record.spec.clone());
        let rotation = tokio::task::spawn_blocking(move || {
            log::rotate(&root, &spec.name, spec.log_bytes_max, spec.log_files)
        });
        if let Ok(Err(error)) = rotation.await {
            tracing::warn!(node.id = %self.root.id, process = self.name, %error, "log not rotated");
        }
    }

    fn found(&self) -> Alive {
        Alive::adopt(&self.root, &self.name).unwrap_or_else(Alive::unknown)
    }

    fn lock_path(&self) -> PathBuf {
        record::path(&self.name, "lock")
    }

    fn publish(&self) {
        let (state, alive) = match &self.phase {
            Phase::Idle(state) => (*state, None),
            Phase::Waiting { .. } => (State::BackingOff, None),
            Phase::Alive(alive) => (State::Running, Some(alive)),
        };
        self.status.send_replace(Status {
            state,
            pid: alive.and_then(|alive| u32::try_from(alive.pid?).ok()),
            restarts: self.restarts,
            started_at: alive.map(|alive| alive.started_at),
        });
    }

    fn tell(&self, kind: &'static str, text: &str) {
        self.events.record(
            self.root.id,
            kind,
            format!("process `{}`: {text}", self.name),
        );
    }

    fn broken(&self, source: io::Error) -> ProcessError {
        ProcessError::Record {
            name: self.name.clone(),
            source,
        }
    }
}

impl Phase {
    /// What happens next by itself.
    async fn next(&mut self, root: &NodeRoot, lock: &std::path::Path) -> Happened {
        match self {
            Self::Idle(_) => pending().await,
            Self::Waiting { until } => {
                time::sleep(until.since(time::now())).await;
                Happened::Due
            }
            Self::Alive(alive) => Happened::Ended(alive.ended(root, lock).await),
        }
    }
}
