//! Starts and ends a process: everything that takes, finds or waits for its lock.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::super::ProcessError;
use super::super::live::{Exit, LiveProcess};
use super::super::spawn;
use super::super::spec::ProcessSpec;
use super::{Actor, DESCENDANTS_GRACE, Phase};
use crate::process_group::{Lock, kill_marked, marker, take_lock};
use crate::{lease, time};

/// How long a killed process may take to end.
const KILL_MAX: Duration = Duration::from_secs(10);
/// How long a fork that has not yet executed its own program may hold the lock.
const FORK_MAX: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

impl Actor {
    /// Starts the process, or adopts it if it runs already.
    pub(super) async fn launch(
        &mut self,
        spec: &ProcessSpec,
        kind: &'static str,
    ) -> Result<(), ProcessError> {
        let lock = match take_lock(&self.root, &self.lock_path())
            .map_err(|e| self.record_error(e))?
        {
            Lock::Free(lock) => Some(lock),
            Lock::Held => match LiveProcess::adopt(&self.root, &self.name) {
                Some(live) => {
                    let pid = live.pid.unwrap_or_default();
                    self.phase = Phase::Running(Box::new(live));
                    self.record_event("process_adopted", &format!("found running with pid {pid}"));
                    None
                }
                None => self.end_descendants().await?,
            },
        };
        let Some(lock) = lock else { return Ok(()) };
        if !lease::may_start(&self.root) {
            return Err(ProcessError::NoLease {
                name: self.name.clone(),
            });
        }
        let spawned = spawn::spawn(&self.root, spec, self.guard.as_deref(), lock).await;
        let (child, pid) = spawned.map_err(|source| ProcessError::Spawn {
            name: self.name.clone(),
            command: spec.command.display().to_string(),
            source,
        })?;
        self.phase = Phase::Running(Box::new(LiveProcess::child(child, pid)));
        self.record_event(kind, &format!("runs with pid {pid}"));
        Ok(())
    }

    /// Ends descendants whose leader has ended. `None` when a process that the agent can't find keeps the lock.
    async fn end_descendants(&mut self) -> Result<Option<std::fs::File>, ProcessError> {
        if let Lock::Free(lock) = self
            .lock_within(FORK_MAX)
            .await
            .map_err(|e| self.record_error(e))?
        {
            return Ok(Some(lock));
        }
        kill_marked(&marker(&self.root, &self.name));
        match self
            .lock_within(KILL_MAX)
            .await
            .map_err(|e| self.record_error(e))?
        {
            Lock::Free(lock) => Ok(Some(lock)),
            Lock::Held => {
                self.phase = Phase::Running(Box::new(LiveProcess::unknown()));
                self.record_event(
                    "process_adopted",
                    "holds its lock, but the agent can't find it and leaves it running",
                );
                Ok(None)
            }
        }
    }

    /// Sends SIGTERM, waits for the grace period, sends SIGKILL, and verifies that no process holds the lock.
    pub(super) async fn end(
        &self,
        live: &mut LiveProcess,
        grace: Duration,
    ) -> Result<Exit, ProcessError> {
        let lock = self.lock_path();
        live.signal(Signal::TERM);
        // A stopped (SIGSTOP) process can't act on a signal.
        live.signal(Signal::CONT);
        let mut exit = tokio::time::timeout(grace, live.ended(&self.root, &lock))
            .await
            .ok();
        let descendants_grace = if exit.is_some() {
            grace.min(DESCENDANTS_GRACE)
        } else {
            Duration::ZERO
        };
        if !self.is_free_within(descendants_grace).await {
            live.signal(Signal::KILL);
            kill_marked(&marker(&self.root, &self.name));
        }
        if exit.is_none() {
            exit = tokio::time::timeout(KILL_MAX, live.ended(&self.root, &lock))
                .await
                .ok();
        }
        match exit {
            Some(exit) if self.is_free_within(KILL_MAX).await => Ok(exit),
            _ => Err(ProcessError::WontDie {
                name: self.name.clone(),
            }),
        }
    }

    async fn lock_within(&self, limit: Duration) -> io::Result<Lock> {
        let end = time::now().plus(limit);
        loop {
            match take_lock(&self.root, &self.lock_path())? {
                Lock::Held if time::now() < end => time::sleep(POLL).await,
                lock => return Ok(lock),
            }
        }
    }

    pub(super) async fn is_free_within(&self, limit: Duration) -> bool {
        matches!(self.lock_within(limit).await, Ok(Lock::Free(_)))
    }
}
