//! A running process: how the agent notices its end and signals it.
//!
//! The agent waits for its own children. It watches a process of an earlier agent through a pidfd, which never refers to
//! a later process with the same pid.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use host_domain::time::Millis;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;

use super::spec;
use crate::node_root::NodeRoot;
use crate::process_group::{self, Lock, Stat, marker, take_lock};
use crate::time;

/// How often the agent polls a process that it can't watch.
const UNKNOWN_POLL: Duration = Duration::from_secs(1);

/// A process that runs.
pub(super) struct LiveProcess {
    pub(super) pid: Option<i32>,
    pub(super) started_at: Millis,
    start_ticks: Option<u64>,
    source: Source,
}

enum Source {
    Child(Child),
    Adopted(AsyncFd<OwnedFd>),
    /// Some process holds the lock, but the agent can't find it.
    Unknown,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Exit {
    /// `None` when another process received the exit status.
    pub(super) success: Option<bool>,
    pub(super) text: String,
}

impl LiveProcess {
    /// A child of this agent.
    pub(super) fn child(child: Child, pid: i32) -> Self {
        let start_ticks = process_group::stat(pid).map(|stat| stat.start_ticks);
        Self {
            pid: Some(pid),
            started_at: time::now(),
            start_ticks,
            source: Source::Child(child),
        }
    }

    /// Finds the process that holds the lock, by its pid record or by its marker.
    pub(super) fn adopt(root: &NodeRoot, name: &str) -> Option<Self> {
        let recorded = spec::load_pid(root, name).ok().flatten();
        let known = recorded.and_then(|seen| {
            let stat = process_group::stat(seen.pid)?;
            (stat.start_ticks == seen.start_ticks).then_some((seen.pid, stat, Millis(seen.at_ms)))
        });
        let found = || {
            let (pid, stat) = process_group::leader(&marker(root, name))?;
            Some((pid, stat, time::now()))
        };
        let (pid, stat, started_at) = known.or_else(found)?;
        Self::watch(pid, stat, started_at)
    }

    /// A process that holds the lock but that the agent can't find.
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
        // Before the descriptor was opened, the kernel may have given the pid to another process.
        if process_group::stat(pid)?.start_ticks != stat.start_ticks {
            return None;
        }
        #[expect(
            deprecated,
            reason = "the replacement is unsafe for types that change their descriptor; OwnedFd does not"
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

    /// Waits until the process has ended. Cancel-safe.
    pub(super) async fn ended(&mut self, root: &NodeRoot, lock: &Path) -> Exit {
        match &mut self.source {
            Source::Child(child) => match child.wait().await {
                Ok(status) => Exit {
                    success: Some(status.success()),
                    text: status_text(status),
                },
                Err(error) => {
                    unknown_exit(&format!("the agent can't read its exit status: {error}"))
                }
            },
            Source::Adopted(fd) => match fd.readable().await {
                Ok(_) => unknown_exit("only the agent that started it could read its exit status"),
                Err(error) => unknown_exit(&format!("the agent can't watch it: {error}")),
            },
            Source::Unknown => loop {
                time::sleep(UNKNOWN_POLL).await;
                if matches!(take_lock(root, lock), Ok(Lock::Free(_))) {
                    break unknown_exit("the agent could not watch it");
                }
            },
        }
    }

    /// Signals the process's group, unless its leader has ended and the pid may belong to another process.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = self.pid else { return };
        let same =
            process_group::stat(pid).is_some_and(|stat| Some(stat.start_ticks) == self.start_ticks);
        if let Some(group) = Pid::from_raw(pid).filter(|_| same) {
            // The only failure is that the group has already ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

fn unknown_exit(why: &str) -> Exit {
    Exit {
        success: None,
        text: format!("exited; {why}"),
    }
}

fn status_text(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was terminated by signal {signal}"),
        (None, None) => format!("exited: {status}"),
    }
}
