//! Process groups that outlive the agent: how a later agent finds them, proves that they run, and kills them.
//!
//! A pid alone proves nothing, because the kernel may give it to another process. Three things do:
//! - the start time of the process;
//! - a marker in the environment, which descendants inherit;
//! - an exclusively locked file as the standard input. It reads as empty, like /dev/null, and the kernel holds the lock
//!   exactly as long as the process or a descendant has the file open.

use std::fs;
use std::io;
use std::path::Path;

use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::node_root::NodeRoot;

/// The environment variable that marks a process as `<node id>/<name>`.
pub(crate) const MARKER: &str = "BELLWETHER_PROCESS";

/// The marker of a node's process, as `<variable>=<value>`.
pub(crate) fn marker(root: &NodeRoot, name: &str) -> String {
    format!("{MARKER}={}", marker_value(root, name))
}

/// The value of the marker variable for a node's process.
pub(crate) fn marker_value(root: &NodeRoot, name: &str) -> String {
    format!("{}/{name}", root.id)
}

/// The lock that a process group holds while it runs.
pub(crate) enum Lock {
    /// No process runs. The process that gets the file as its input holds the lock.
    Free(fs::File),
    /// A process runs.
    Held,
}

/// Takes the lock at `path` if it is free.
pub(crate) fn take_lock(root: &NodeRoot, path: &Path) -> io::Result<Lock> {
    root.dir.open_with(
        path,
        OpenOptions::new().write(true).create(true).mode(0o600),
    )?;
    // The process must not be able to write to the file, so this handle only reads.
    let file = root.dir.open(path)?.into_std();
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Free(file)),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(error) => Err(error.into()),
    }
}

/// The part of `/proc/<pid>/stat` that identifies a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) group: i32,
    pub(crate) start_ticks: u64,
    zombie: bool,
}

/// Reads the state of a running process; `None` for one that ended.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text).filter(|stat| !stat.zombie)
}

/// Finds the running process that leads the group with this marker.
pub(crate) fn leader(marker: &str) -> Option<(i32, Stat)> {
    marked(marker)
        .into_iter()
        .find(|(pid, stat)| *pid == stat.group)
}

/// Sends SIGKILL to every group in which a process carries the marker. Returns the number of groups.
pub(crate) fn kill_marked(marker: &str) -> usize {
    let mut groups: Vec<i32> = marked(marker)
        .into_iter()
        .map(|(_, stat)| stat.group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups.iter().filter_map(|group| Pid::from_raw(*group)) {
        // The only failure is that the group has already ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
    groups.len()
}

/// Sends SIGKILL to every other process of the caller's group. Returns the number of processes.
pub(crate) fn kill_in_own_group() -> usize {
    let own_group = rustix::process::getpgrp().as_raw_nonzero().get();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let is_other =
        |pid: &i32| *pid != own && stat(*pid).is_some_and(|stat| stat.group == own_group);
    let others: Vec<i32> = pids().filter(is_other).collect();
    for pid in others.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // The only failure is that the process has already ended.
        let _ = kill_process(pid, Signal::KILL);
    }
    others.len()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn marked(marker: &str) -> Vec<(i32, Stat)> {
    // An agent that itself runs under a marker must not kill its own group.
    let own = rustix::process::getpgrp().as_raw_nonzero().get();
    pids()
        .filter(|pid| has_marker(*pid, marker))
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .filter(|(_, stat)| stat.group != own)
        .collect()
}

fn has_marker(pid: i32, marker: &str) -> bool {
    let Ok(environment) = fs::read(Path::new("/proc").join(pid.to_string()).join("environ")) else {
        return false;
    };
    environment
        .split(|byte| *byte == 0)
        .any(|entry| entry == marker.as_bytes())
}

/// The second field is the program's name in parentheses. It may contain anything, including `)` and spaces.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_parsed() {
        let text = "12 (a) b) S 1 77 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let expected = Stat {
            group: 77,
            start_ticks: 4242,
            zombie: false,
        };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn this_process_is_alive() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(stat(pid).is_some());
        assert!(stat(i32::MAX).is_none());
    }
}
