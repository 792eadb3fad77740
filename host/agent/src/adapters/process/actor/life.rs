//! Beginning and ending a process: everything that takes, finds or waits for its lock.

use std::io;
use std::time::Duration;

use rustix::process::Signal;

use super::super::alive::{Alive, Exit};
use super::super::record::ProcessSpec;
use super::super::spawn::{self, Lock, marker, take_lock};
use super::super::{ProcessError, find};
use super::{Actor, Phase, REST_GRACE};
use crate::{lease, time};

/// How long the end of a killed process may take.
const KILL_MAX: Duration = Duration::from_secs(10);
/// How long a lock may look held by a fork that has not yet become its own program.
const FORK_MAX: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

impl Actor {
    /// Starts the process, or takes over the one that runs already.
    pub(super) async fn launch(
        &mut self,
        spec: &ProcessSpec,
        kind: &'static str,
    ) -> Result<(), ProcessError> {
        let lock = match take_lock(&self.root, &self.lock_path()).map_err(|e| self.broken(e))? {
            Lock::Free(lock) => Some(lock),
            Lock::Held => match Alive::adopt(&self.root, &self.name) {
                Some(alive) => {
                    let pid = alive.pid.unwrap_or_default();
                    self.phase = Phase::Alive(Box::new(alive));
                    self.tell("process_adopted", &format!("found running with pid {pid}"));
                    None
                }
                None => self.clear_rest().await?,
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
        self.phase = Phase::Alive(Box::new(Alive::child(child, pid)));
        self.tell(kind, &format!("runs with pid {pid}"));
        Ok(())
    }

    /// Ends descendants whose leader is gone. `None` when the lock stays held by somebody who can't be seen.
    async fn clear_rest(&mut self) -> Result<Option<std::fs::File>, ProcessError> {
        if let Lock::Free(lock) = self
            .lock_within(FORK_MAX)
            .await
            .map_err(|e| self.broken(e))?
        {
            return Ok(Some(lock));
        }
        find::kill_marked(&marker(&self.root, &self.name));
        match self
            .lock_within(KILL_MAX)
            .await
            .map_err(|e| self.broken(e))?
        {
            Lock::Free(lock) => Ok(Some(lock)),
            Lock::Held => {
                self.phase = Phase::Alive(Box::new(Alive::unknown()));
                self.tell(
                    "process_adopted",
                    "its lock is held, but it can't be seen; it is left alone",
                );
                Ok(None)
            }
        }
    }

    /// SIGTERM, the grace, SIGKILL, and the proof that nobody holds the lock.
    pub(super) async fn end(
        &self,
        alive: &mut Alive,
        grace: Duration,
    ) -> Result<Exit, ProcessError> {
        let lock = self.lock_path();
        alive.signal(Signal::TERM);
        // A frozen process can't act on a signal.
        alive.signal(Signal::CONT);
        let mut exit = tokio::time::timeout(grace, alive.ended(&self.root, &lock))
            .await
            .ok();
        let rest = if exit.is_some() {
            grace.min(REST_GRACE)
        } else {
            Duration::ZERO
        };
        if !self.is_free_within(rest).await {
            alive.signal(Signal::KILL);
            find::kill_marked(&marker(&self.root, &self.name));
        }
        if exit.is_none() {
            exit = tokio::time::timeout(KILL_MAX, alive.ended(&self.root, &lock))
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
