//! One engine at a time works in a node's folder, and it outlives its machine: one that is cut off writes its state down nowhere
//! and keeps what it locked in a bucket.
//!
//! Its input is a file that is locked for as long as it runs. So an engine that a killed host left behind is found, asked to
//! end, as Ctrl-C would ask it, and waited for, before anything else is done or read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use host_workflows::ActivityContext;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use tokio::time::Instant;

use super::GRACE;

/// The pause between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(200);

/// Takes the lock, and ends whoever is left behind with it.
pub(super) async fn take(path: &Path, ctx: &ActivityContext) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    if is_free(&file)? {
        return Ok(file);
    }
    tracing::warn!(path = %path.display(), "an engine was left behind; it is asked to end");
    signal(&file, Signal::INT)?;
    let asked = Instant::now();
    let mut is_killed = false;
    while !is_free(&file)? {
        if asked.elapsed() > GRACE {
            let signal_again = signal(&file, Signal::KILL)?;
            if is_killed && !signal_again {
                return Err(io::Error::other(
                    "its lock is held by a process that is not to be seen",
                ));
            }
            is_killed = true;
        }
        ctx.heartbeat(&"an engine that was left behind");
        tokio::time::sleep(LOOK).await;
    }
    Ok(file)
}

fn is_free(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Signals the groups of all processes whose input the file is; `false` when there is none.
fn signal(file: &File, signal: Signal) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let mut is_any = false;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes end meanwhile, and those of others are not to be seen.
        let Ok(input) = std::fs::metadata(entry.path().join("fd/0")) else {
            continue;
        };
        if (input.dev(), input.ino()) != (wanted.dev(), wanted.ino()) {
            continue;
        }
        if let Some(group) = Pid::from_raw(pid).and_then(|pid| getpgid(Some(pid)).ok()) {
            is_any = true;
            let _ = kill_process_group(group, signal);
        }
    }
    Ok(is_any)
}
