//! The task that owns one process: starts it, notices its end, restarts it by its policy, and stops it.
//!
//! A new agent finds all of the actor's state on disk or in the kernel.

mod life;

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Millis;
use proto::v1::process::RestartPolicy;
use tokio::sync::{mpsc, watch};

use super::live::{Exit, LiveProcess};
use super::spec::{self, ManagedProcess, ProcessSpec};
use super::{DesiredState, ProcessError, Request, State, Status, log};
use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::process_group::{self, Lock, marker, take_lock};
use crate::{lease, time};

/// The restart policy counts restarts within this time.
const RESTART_WINDOW: Duration = Duration::from_mins(10);
/// How often the actor checks the size of the log.
const ROTATE_EVERY: Duration = Duration::from_secs(1);
/// How often the actor polls for a lease.
const LEASE_POLL: Duration = Duration::from_secs(1);
/// How long descendants may outlive the leader of their group.
const DESCENDANTS_GRACE: Duration = Duration::from_millis(500);

/// The dependencies of an actor.
pub(super) struct ActorParts {
    pub(super) root: NodeRoot,
    pub(super) name: String,
    pub(super) events: Arc<EventLog>,
    pub(super) guard: Option<PathBuf>,
    pub(super) status: watch::Sender<Status>,
}

/// The owner of one process.
pub(super) struct Actor {
    root: NodeRoot,
    name: String,
    events: Arc<EventLog>,
    /// The program that enforces leases.
    guard: Option<PathBuf>,
    status: watch::Sender<Status>,
    process: Option<ManagedProcess>,
    phase: Phase,
    /// Restarts since the last start on request.
    restarts: u32,
    /// When the process was restarted recently.
    recent: VecDeque<Millis>,
    /// Restarts in a row, for the backoff.
    streak: u32,
}

enum Phase {
    Idle(State),
    Running(Box<LiveProcess>),
    /// Waiting for the next start.
    Waiting {
        until: Millis,
    },
}

enum PhaseEvent {
    Exit(Exit),
    StartDue,
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
        let (process, recent) = (None, VecDeque::new());
        Self {
            root,
            name,
            events,
            guard,
            status,
            process,
            phase,
            restarts: 0,
            recent,
            streak: 0,
        }
    }

    /// Runs until the process is removed. Dropping the future leaves the process running.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Request>,
        process: Option<ManagedProcess>,
    ) {
        if let Some(process) = process {
            self.resume(process).await;
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
                event = self.phase.next(&self.root, &lock) => match event {
                    PhaseEvent::Exit(exit) => self.on_exit(exit).await,
                    PhaseEvent::StartDue => self.restart().await,
                },
                () = time::sleep(ROTATE_EVERY) => self.rotate().await,
            }
        }
    }

    async fn answer(&mut self, request: Request) -> ControlFlow<()> {
        let (reply, result) = match request {
            Request::Start(process, reply) => (reply, self.start(*process).await),
            Request::Stop(reply) => (reply, self.stop().await),
            Request::Remove(reply) => {
                let removed = match self.stop().await {
                    Ok(()) => {
                        spec::remove_files(&self.root, &self.name).map_err(|e| self.record_error(e))
                    }
                    Err(error) => Err(error),
                };
                let is_removed = removed.is_ok();
                let _ = reply.send(removed);
                return if is_removed {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                };
            }
        };
        self.publish();
        // The requester may have stopped waiting; the request is done all the same.
        let _ = reply.send(result);
        ControlFlow::Continue(())
    }

    async fn start(&mut self, mut process: ManagedProcess) -> Result<(), ProcessError> {
        self.load()?;
        let old = self.process.as_ref();
        let is_same = old.is_some_and(|old| old.spec == process.spec);
        if matches!(self.phase, Phase::Running(_)) {
            if is_same {
                return Ok(());
            }
            self.stop().await?;
        }
        process
            .save_as(&self.root, DesiredState::Running)
            .map_err(|e| self.record_error(e))?;
        let spec = process.spec.clone();
        self.process = Some(process);
        (self.streak, self.restarts) = (0, 0);
        self.recent.clear();
        let launched = self.launch(&spec, "process_started").await;
        match &launched {
            Ok(()) => {}
            // The process should run, and starts as soon as there is a lease.
            Err(ProcessError::NoLease { .. }) => self.wait_for_lease(),
            Err(_) => self.phase = Phase::Idle(State::Failed),
        }
        launched
    }

    /// Continues after a restart of the agent.
    async fn resume(&mut self, process: ManagedProcess) {
        let (desired, spec) = (process.desired(), process.spec.clone());
        self.process = Some(process);
        let is_held = matches!(take_lock(&self.root, &self.lock_path()), Ok(Lock::Held));
        match desired {
            DesiredState::Stopped if is_held => {
                self.phase = Phase::Running(Box::new(self.find()));
                if let Err(error) = self.stop().await {
                    self.events
                        .record(self.root.id, "process_exited", error.to_string());
                }
            }
            DesiredState::Stopped => {}
            DesiredState::Running => self.resume_running(&spec, is_held).await,
        }
    }

    async fn resume_running(&mut self, spec: &ProcessSpec, is_held: bool) {
        let had_run = spec::load_pid(&self.root, &self.name)
            .ok()
            .flatten()
            .is_some();
        if !is_held && had_run {
            self.record_event("process_exited", "exited while no agent was running");
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
                tracing::warn!(node.id = %self.root.id, process = self.name, %error, "the process failed to start");
                self.schedule(spec);
            }
        }
    }

    /// Polls for a lease. This is no failure of the process, so it does not count as a restart.
    fn wait_for_lease(&mut self) {
        self.phase = Phase::Waiting {
            until: time::now().plus(LEASE_POLL),
        };
    }

    async fn stop(&mut self) -> Result<(), ProcessError> {
        self.load()?;
        let mut grace = Duration::from_secs(10);
        if let Some(process) = &mut self.process {
            grace = process.spec.stop_grace;
            let saved = process.save_as(&self.root, DesiredState::Stopped);
            saved.map_err(|e| self.record_error(e))?;
        }
        if let Phase::Running(mut live) =
            std::mem::replace(&mut self.phase, Phase::Idle(State::Stopped))
        {
            let ended = self.end(&mut live, grace).await;
            if ended.is_err() {
                self.phase = Phase::Running(live);
            }
            let exit = ended?;
            self.record_event("process_exited", &format!("stopped: {}", exit.text));
        }
        Ok(())
    }

    async fn on_exit(&mut self, exit: Exit) {
        let Phase::Running(live) = std::mem::replace(&mut self.phase, Phase::Idle(State::Stopped))
        else {
            return;
        };
        let pid = live.pid.unwrap_or_default();
        if lease::may_start(&self.root) {
            self.record_event("process_exited", &format!("pid {pid} {}", exit.text));
        } else {
            let text = format!(
                "pid {pid} was stopped: it holds keys, and the host did not confirm the node in time"
            );
            self.record_event("process_fenced", &text);
        }
        if !self.is_free_within(DESCENDANTS_GRACE).await {
            process_group::kill_marked(&marker(&self.root, &self.name));
        }
        let Some(spec) = self.process.as_ref().map(|process| process.spec.clone()) else {
            return;
        };
        if time::now().since(live.started_at) > spec.backoff_max {
            self.streak = 0;
        }
        match (spec.restart, exit.success) {
            (RestartPolicy::Never, Some(false)) => self.phase = Phase::Idle(State::Failed),
            (RestartPolicy::Never, _) | (RestartPolicy::OnFailure, Some(true)) => {}
            (RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::Unspecified, _) => {
                self.schedule(&spec);
            }
        }
    }

    /// Schedules the next start, unless the restart policy has reached its limit.
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
            let text = format!("still fails after {n_recent} restarts within ten minutes");
            self.record_event("process_gave_up", &text);
            return;
        }
        let wait = time::backoff(spec.backoff, spec.backoff_max, self.streak);
        self.phase = Phase::Waiting {
            until: now.plus(wait),
        };
        self.streak = self.streak.saturating_add(1);
    }

    async fn restart(&mut self) {
        let Some(spec) = self.process.as_ref().map(|process| process.spec.clone()) else {
            return;
        };
        if !lease::may_start(&self.root) {
            return self.wait_for_lease();
        }
        self.restarts = self.restarts.saturating_add(1);
        self.recent.push_back(time::now());
        if let Err(error) = self.launch(&spec, "process_restarted").await {
            tracing::warn!(node.id = %self.root.id, process = self.name, %error, "the process failed to restart");
            self.schedule(&spec);
        }
    }

    async fn rotate(&self) {
        let (Phase::Running(_), Some(process)) = (&self.phase, &self.process) else {
            return;
        };
        let (root, spec) = (self.root.clone(), process.spec.clone());
        let rotation = tokio::task::spawn_blocking(move || {
            log::rotate(&root, &spec.name, spec.log_bytes_max, spec.log_files)
        });
        if let Ok(Err(error)) = rotation.await {
            tracing::warn!(node.id = %self.root.id, process = self.name, %error, "the agent can't rotate the log");
        }
    }

    /// Reads the record, unless the actor knows it.
    fn load(&mut self) -> Result<(), ProcessError> {
        if self.process.is_none() {
            let process = ManagedProcess::load(&self.root, &self.name);
            self.process = process.map_err(|e| self.record_error(e))?;
        }
        Ok(())
    }

    fn find(&self) -> LiveProcess {
        LiveProcess::adopt(&self.root, &self.name).unwrap_or_else(LiveProcess::unknown)
    }

    fn lock_path(&self) -> PathBuf {
        spec::lock_path(&self.name)
    }

    fn publish(&self) {
        let (state, live) = match &self.phase {
            Phase::Idle(state) => (*state, None),
            Phase::Waiting { .. } => (State::BackingOff, None),
            Phase::Running(live) => (State::Running, Some(live)),
        };
        self.status.send_replace(Status {
            name: self.name.clone(),
            state,
            pid: live.and_then(|live| u32::try_from(live.pid?).ok()),
            restarts: self.restarts,
            started_at: live.map(|live| live.started_at),
        });
    }

    fn record_event(&self, kind: &'static str, text: &str) {
        let message = format!("process `{}`: {text}", self.name);
        self.events.record(self.root.id, kind, message);
    }

    fn record_error(&self, source: io::Error) -> ProcessError {
        ProcessError::Record {
            name: self.name.clone(),
            source,
        }
    }
}

impl Phase {
    /// Waits for the next event that no request caused. Cancel-safe.
    async fn next(&mut self, root: &NodeRoot, lock: &Path) -> PhaseEvent {
        match self {
            Self::Idle(_) => pending().await,
            Self::Waiting { until } => {
                time::sleep(until.since(time::now())).await;
                PhaseEvent::StartDue
            }
            Self::Running(live) => PhaseEvent::Exit(live.ended(root, lock).await),
        }
    }
}
