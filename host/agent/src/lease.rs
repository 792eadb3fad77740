//! Leases: how long the processes of a node that holds keys may run without a confirmation by the host.
//!
//! A node migration moves the node's keys, and two machines must never use them at once. The host can't reach a
//! disconnected agent, so it waits until the agent's lease has expired. The agent and the guards of its processes enforce
//! the lease. It counts from the moment when the agent sent its request, by a clock that also runs while the machine is
//! suspended. It is a file, because processes outlive their agent. A node without this file holds no keys.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host_domain::ids::NodeId;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;
use crate::node_root::{NodeRoot, RUN_DIR};

/// The kernel changes this id at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const FILE: &str = "lease";
/// A process gets the last quarter of a lease for a clean exit.
const EXPIRING_PART: u32 = 4;

/// Milliseconds since boot, including time in suspend.
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

/// The current moment.
pub(crate) fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    Moment(time.tv_sec * 1_000 + time.tv_nsec / 1_000_000)
}

/// The state of a node's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// The node's processes may run.
    Valid,
    /// Running processes should exit, and none may start.
    Expiring,
    /// No process may run.
    Expired,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    /// The boot that the moments count from.
    boot: String,
    expiring: Moment,
    expired: Moment,
}

impl Lease {
    fn new(from: Moment, length: Duration) -> io::Result<Self> {
        Ok(Self {
            boot: fs::read_to_string(BOOT_ID)?.trim().to_owned(),
            expiring: from.plus(length.saturating_sub(length / EXPIRING_PART)),
            expired: from.plus(length),
        })
    }

    fn state(&self, now: Moment) -> LeaseState {
        let is_this_boot = fs::read_to_string(BOOT_ID).is_ok_and(|boot| boot.trim() == self.boot);
        if !is_this_boot || now >= self.expired {
            LeaseState::Expired
        } else if now >= self.expiring {
            LeaseState::Expiring
        } else {
            LeaseState::Valid
        }
    }
}

/// The path of a node's lease, for the guard.
pub(crate) fn path(root: &NodeRoot) -> PathBuf {
    root.path.join(file())
}

/// Whether the node holds keys and therefore needs a lease.
pub(crate) fn is_leased(root: &NodeRoot) -> bool {
    root.has(&file())
}

/// Whether a process of the node may start.
pub(crate) fn may_start(root: &NodeRoot) -> bool {
    !is_leased(root) || lease_state(&path(root)) == LeaseState::Valid
}

/// The current state of the lease in a file. An unreadable lease has expired.
pub(crate) fn lease_state(path: &Path) -> LeaseState {
    read(path).map_or(LeaseState::Expired, |lease| lease.state(now()))
}

/// Writes a node's lease, because the node gets a key. A late answer never shortens the lease.
pub(crate) fn begin(root: &NodeRoot, from: Moment, length: Duration) -> io::Result<()> {
    let lease = Lease::new(from, length)?;
    let is_longer = |old: Lease| old.boot == lease.boot && old.expired >= lease.expired;
    if read(&path(root)).is_some_and(is_longer) {
        return Ok(());
    }
    root.write(&file(), &serde_json::to_vec(&lease)?, 0o600)
}

/// Extends the lease of a node that has one.
pub(crate) fn extend(
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
    fn a_lease_leaves_time_to_exit_and_expires_at_a_reboot() {
        let lease = Lease::new(Moment(1_000), Duration::from_mins(1)).unwrap();
        let state = |at| lease.state(Moment(at));
        assert_eq!(state(45_999), LeaseState::Valid);
        assert_eq!(state(46_000), LeaseState::Expiring);
        assert_eq!(state(60_999), LeaseState::Expiring);
        assert_eq!(state(61_000), LeaseState::Expired);
        let earlier = Lease {
            boot: "another".to_owned(),
            ..lease
        };
        assert_eq!(earlier.state(Moment(0)), LeaseState::Expired);
    }

    #[test]
    fn a_late_answer_never_shortens_a_lease() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::open(folder.path()).unwrap();
        let id = NodeId(uuid::Uuid::now_v7());
        let root = NodeRoot::create(&layout, id).unwrap();
        extend(&layout, id, now(), Duration::from_mins(1)).unwrap();
        assert!(
            !is_leased(&root) && may_start(&root),
            "the node holds no keys"
        );
        begin(&root, now(), Duration::from_mins(1)).unwrap();
        let long = read(&path(&root)).unwrap();
        extend(&layout, id, Moment(0), Duration::from_mins(1)).unwrap();
        assert_eq!(read(&path(&root)), Some(long));
        assert!(may_start(&root));
        fs::write(path(&root), "no lease").unwrap();
        assert!(!may_start(&root), "an unreadable lease has expired");
    }
}
