//! Ensures that only one OpenTofu or Terraform process works in a machine's directory. The process outlives the host,
//! because an interrupted one loses its state and keeps its lock in the bucket.
//!
//! Its standard input is a file that stays locked while it runs. So the next host finds the process of a killed host,
//! interrupts it as Ctrl-C would, and waits until it exits.

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

/// How often the host polls whether the process has exited.
const LOOK: Duration = Duration::from_millis(200);

/// Takes the lock, and ends the process that a previous host left running with it.
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
    tracing::warn!(path = %path.display(), "a previous host left OpenTofu or Terraform running; it is interrupted now");
    signal(&file, Signal::INT)?;
    let asked = Instant::now();
    let mut is_killed = false;
    while !is_free(&file)? {
        if asked.elapsed() > GRACE {
            let signal_again = signal(&file, Signal::KILL)?;
            if is_killed && !signal_again {
                return Err(io::Error::other("a process of another user holds its lock"));
            }
            is_killed = true;
        }
        ctx.heartbeat(&"waiting for OpenTofu or Terraform of a previous host");
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

/// Signals the process groups of all processes whose standard input is the file; `false` when there is none.
fn signal(file: &File, signal: Signal) -> io::Result<bool> {
    let wanted = file.metadata()?;
    let mut is_any = false;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Processes may exit meanwhile, and those of other users are not readable.
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
