//! Finding processes that an earlier agent started, by what the kernel says about them.
//!
//! A pid alone proves nothing: it may belong to someone else by now. The start time and a marker in the
//! environment, which descendants inherit, do.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The variable that marks a process as `<node id>/<name>`.
pub(crate) const MARKER: &str = "BELLWETHER_PROCESS";

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) group: i32,
    pub(crate) start_ticks: u64,
    zombie: bool,
}

/// A living process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text).filter(|stat| !stat.zombie)
}

/// The living process that leads the group marked `marker`, if any.
pub(crate) fn leader(marker: &str) -> Option<(i32, Stat)> {
    marked(marker)
        .into_iter()
        .find(|(pid, stat)| *pid == stat.group)
}

/// Sends SIGKILL to every group in which a process carries the marker. Returns how many there were.
pub(crate) fn kill_marked(marker: &str) -> usize {
    let mut groups: Vec<i32> = marked(marker)
        .into_iter()
        .map(|(_, stat)| stat.group)
        .collect();
    groups.sort_unstable();
    groups.dedup();
    for group in groups.iter().filter_map(|group| Pid::from_raw(*group)) {
        // A group that ended meanwhile is what we want.
        let _ = kill_process_group(group, Signal::KILL);
    }
    groups.len()
}

/// Sends SIGKILL to every other process of this process's group. Returns how many there were.
pub(crate) fn kill_in_own_group() -> usize {
    let own_group = rustix::process::getpgrp().as_raw_nonzero().get();
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let is_other =
        |pid: &i32| *pid != own && stat(*pid).is_some_and(|stat| stat.group == own_group);
    let others: Vec<i32> = pids().filter(is_other).collect();
    for pid in others.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // One that ended meanwhile is what we want.
        let _ = kill_process(pid, Signal::KILL);
    }
    others.len()
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn marked(marker: &str) -> Vec<(i32, Stat)> {
    // The agent's own group is never touched, should it ever run under a marker itself.
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

/// The second field is the program's name in parentheses and may hold anything, also `)` and blanks.
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
    fn a_name_with_blanks_and_parentheses_is_read() {
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
