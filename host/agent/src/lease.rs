//! Leases: how long the processes of a node that holds keys may run without a word of the host.
//!
//! A node that moves takes its keys along, and nobody may have them twice. The host can't reach an agent that is cut
//! off, so it waits until the agent's lease is surely over; this side keeps to the lease whatever else happens to it
//! ([`crate::guard`]). A lease is counted from when the question was sent, by a clock that also runs while the machine
//! sleeps, and is a file, because agents come and go beside their processes. A node without the file has no lease and
//! needs none.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::NodeId;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::node_root::{NodeRoot, RUN_DIR};

/// Where the kernel says which start of the machine this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "lease";
/// This part of a lease is left to a process for ending well.
const ENDING: u32 = 4;

/// Milliseconds since the machine's start, its sleep included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment(i64);

impl Moment {
    fn plus(self, by: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// The present.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    Moment(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000)
}

/// What a node's lease says at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its processes may run.
    Runs,
    /// They should end, and none may be started.
    Ending,
    /// None may be left.
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    /// The machine's start that the moments count from.
    boot: String,
    ending: Moment,
    over: Moment,
}

impl Lease {
    fn new(from: Moment, length: Duration) -> io::Result<Self> {
        Ok(Self {
            boot: fs::read_to_string(BOOT_ID)?.trim().to_owned(),
            ending: from.plus(length.saturating_sub(length / ENDING)),
            over: from.plus(length),
        })
    }

    fn standing(&self, now: Moment) -> Standing {
        let is_this_boot = fs::read_to_string(BOOT_ID).is_ok_and(|boot| boot.trim() == self.boot);
        if !is_this_boot || now >= self.over {
            Standing::Over
        } else if now >= self.ending {
            Standing::Ending
        } else {
            Standing::Runs
        }
    }
}

/// Where a node's lease lies, for the guard.
pub(crate) fn path(root: &NodeRoot) -> PathBuf {
    root.path.join(file())
}

/// Whether the node holds keys and has to keep to a lease.
pub(crate) fn is_leased(root: &NodeRoot) -> bool {
    root.has(&file())
}

/// Whether a process of the node may be started.
pub(crate) fn may_start(root: &NodeRoot) -> bool {
    !is_leased(root) || standing(&path(root)) == Standing::Runs
}

/// What the lease in that file says now. One that can't be read is over.
pub(crate) fn standing(path: &Path) -> Standing {
    read(path).map_or(Standing::Over, |lease| lease.standing(now()))
}

/// Puts a node under a lease, because it gets a key. A host that counts no leases gives none.
pub(crate) fn begin(root: &NodeRoot, from: Moment, length: Duration) -> io::Result<()> {
    if length.is_zero() {
        return Ok(());
    }
    let lease = Lease::new(from, length)?;
    let is_longer = |old: Lease| old.boot == lease.boot && old.over >= lease.over;
    if read(&path(root)).is_some_and(is_longer) {
        return Ok(());
    }
    root.write(&file(), &serde_json::to_vec(&lease)?, 0o600)
}

/// Prolongs the lease of a node that has one.
pub(crate) fn prolong(
    layout: &Layout,
    node: NodeId,
    from: Moment,
    length: Duration,
) -> io::Result<()> {
    match NodeRoot::open(layout, node)? {
        Some(root) if is_leased(&root) => begin(&root, from, length),
        Some(_) | None => Ok(()),
    }
}

fn file() -> PathBuf {
    Path::new(RUN_DIR).join(FILE)
}

fn read(path: &Path) -> Option<Lease> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_leaves_time_to_end_and_is_over_after_a_restart_of_the_machine() {
        let lease = Lease::new(Moment(1_000), Duration::from_mins(1)).unwrap();
        let standing = |at| lease.standing(Moment(at));
        assert_eq!(standing(45_999), Standing::Runs);
        assert_eq!(standing(46_000), Standing::Ending);
        assert_eq!(standing(60_999), Standing::Ending);
        assert_eq!(standing(61_000), Standing::Over);
        let before = Lease {
            boot: "another".to_owned(),
            ..lease
        };
        assert_eq!(before.standing(Moment(0)), Standing::Over);
    }

    #[test]
    fn an_answer_that_comes_late_shortens_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let id = NodeId(uuid::Uuid::now_v7());
        let root = NodeRoot::create(&layout, id).unwrap();
        prolong(&layout, id, now(), Duration::from_mins(1)).unwrap();
        assert!(!is_leased(&root) && may_start(&root), "it holds no keys");
        begin(&root, now(), Duration::ZERO).unwrap();
        assert!(!is_leased(&root), "the host counts no leases");
        begin(&root, now(), Duration::from_mins(1)).unwrap();
        let long = read(&path(&root)).unwrap();
        prolong(&layout, id, Moment(0), Duration::from_mins(1)).unwrap();
        assert_eq!(read(&path(&root)), Some(long));
        assert!(may_start(&root));
        fs::write(path(&root), "no lease").unwrap();
        assert!(!may_start(&root), "what can't be read is over");
    }
}
