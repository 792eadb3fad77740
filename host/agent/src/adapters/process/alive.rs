//! A living process: how its end is noticed and how it is signalled.
//!
//! An own child is waited for; a process of an earlier agent is watched by a pidfd, which can't be confused
//! with a later process of the same pid.

use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::time::Duration;

use host_domain::time::Millis;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::find::{self, Stat};
use super::record;
use super::spawn::{Lock, marker, take_lock};
use crate::node_root::NodeRoot;
use crate::time;

/// How often a process that can't be watched is looked at.
const UNKNOWN_POLL: Duration = Duration::from_secs(1);

/// A process that runs.
pub(super) struct Alive {
    pub(super) pid: Option<i32>,
    pub(super) started_at: Millis,
    start_ticks: Option<u64>,
    source: Source,
}

enum Source {
    Child(Child),
    Adopted(AsyncFd<OwnedFd>),
    /// The lock is held, but by whom can't be seen.
    Unknown,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// `None` when the status went to somebody else.
    pub(super) success: Option<bool>,
    pub(super) text: String,
}

impl Alive {
    /// An own child.
    pub(super) fn child(child: Child, pid: i32) -> Self {
        let start_ticks = find::stat(pid).map(|stat| stat.start_ticks);
        Self {
            pid: Some(pid),
            started_at: time::now(),
            start_ticks,
            source: Source::Child(child),
        }
    }

    /// The process that holds the lock, found by its pid record or by its marker.
    pub(super) fn adopt(root: &NodeRoot, name: &str) -> Option<Self> {
        let recorded = record::load_pid(root, name).ok().flatten();
        let known = recorded.and_then(|seen| {
            let stat = find::stat(seen.pid)?;
            (stat.start_ticks == seen.start_ticks).then_some((seen.pid, stat, Millis(seen.at_ms)))
        });
        let found = || {
            let (pid, stat) = find::leader(&marker(root, name))?;
            Some((pid, stat, time::now()))
        };
        let (pid, stat, started_at) = known.or_else(found)?;
        Self::watch(pid, stat, started_at)
    }

    /// A process that runs, by its lock, but can't be found.
    pub(super) fn unknown() -> Self {
        Self {
            pid: None,
            started_at: time::now(),
            start_ticks: None,
            source: Source::Unknown,
        }
    }

    fn watch(pid: i32, stat: Stat, started_at: Millis) -> Option<Self> {
        let fd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()?;
        // The pid may have passed to somebody else before the descriptor was opened; afterwards it can't.
        if find::stat(pid)?.start_ticks != stat.start_ticks {
            return None;
        }
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that change their descriptor; OwnedFd does not"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE).ok()?;
        let start_ticks = Some(stat.start_ticks);
        Some(Self {
            pid: Some(pid),
            started_at,
            start_ticks,
            source: Source::Adopted(fd),
        })
    }

    /// Returns when the process has ended. May be dropped and called again.
    pub(super) async fn ended(&mut self, root: &NodeRoot, lock: &std::path::Path) -> Exit {
        match &mut self.source {
            Source::Child(child) => match child.wait().await {
                Ok(status) => Exit {
                    success: Some(status.success()),
                    text: status_text(status),
                },
                Err(error) => unknown_exit(&format!("its status can't be read: {error}")),
            },
            Source::Adopted(fd) => match fd.readable().await {
                Ok(_) => unknown_exit("its status went to the agent that started it"),
                Err(error) => unknown_exit(&format!("it can't be watched: {error}")),
            },
            Source::Unknown => loop {
                time::sleep(UNKNOWN_POLL).await;
                if matches!(take_lock(root, lock), Ok(Lock::Free(_))) {
                    break unknown_exit("it could not be watched");
                }
            },
        }
    }

    /// Signals the process's group, unless its leader is gone and the number may be somebody else's.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        let same = find::stat(pid).is_some_and(|stat| Some(stat.start_ticks) == self.start_ticks);
        if let Some(group) = Pid::from_raw(pid).filter(|_| same) {
            // A group that ended meanwhile needs no signal.
            let _ = kill_process_group(group, signal);
        }
    }
}

fn unknown_exit(why: &str) -> Exit {
    Exit {
        success: None,
        text: format!("ended; {why}"),
    }
}

fn status_text(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}
