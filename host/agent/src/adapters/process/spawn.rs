//! Starting a process so that it outlives the agent and can't be started twice.
//!
//! The trick: an exclusively locked file becomes the process's standard input. It reads as empty, like /dev/null,
//! and the kernel holds the lock exactly as long as the process or a descendant has it open. "Is it running" is
//! therefore "can't the lock be taken", which no crash of the agent can make untrue.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::process::{Child, Command};

use super::find::{self, MARKER};
use super::record::{self, PidRecord, ProcessSpec};
use crate::guard::GUARD_COMMAND;
use crate::node_root::{LOGS_DIR, NodeRoot};
use crate::{lease, time};

/// Where programs are looked for when the agent itself has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Tries when the program's file is still open for writing somewhere.
const BUSY_TRIES: u32 = 20;

/// The lock of a process.
pub(crate) enum Lock {
    /// Nobody runs; whoever gets the file as input does from now on.
    Free(File),
    /// Somebody runs.
    Held,
}

/// Takes a process's lock if it is free.
pub(crate) fn take_lock(root: &NodeRoot, path: &Path) -> io::Result<Lock> {
    root.dir.open_with(
        path,
        OpenOptions::new().write(true).create(true).mode(0o600),
    )?;
    // Opened again for reading only: the process must not be able to write to it.
    let file = root.dir.open(path)?.into_std();
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Free(file)),
        Err(Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(error) => Err(error.into()),
    }
}

/// The value of the marker variable for a process.
pub(crate) fn marker(root: &NodeRoot, name: &str) -> String {
    format!("{MARKER}={}/{name}", root.id)
}

/// Runs the process, under a guard when it holds keys. `lock` becomes its input.
pub(crate) async fn spawn(
    root: &NodeRoot,
    spec: &ProcessSpec,
    guard: Option<&Path>,
    lock: File,
) -> anyhow::Result<(Child, i32)> {
    let program = program(root, spec, guard)?;
    let mut command = command(root, spec, program)?;
    command.stdin(Stdio::from(lock));
    let mut tries = 0;
    let child = loop {
        match command.spawn() {
            // A binary that was written a moment ago may still be open in a child that another thread is
            // just forking; that passes within milliseconds.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES =>
            {
                tries += 1;
                time::sleep(Duration::from_millis(50)).await;
            }
            other => break other.context("the system refused to run it")?,
        }
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.context("it ended before it had a pid")?;
    if let Some(stat) = find::stat(pid) {
        let seen = PidRecord {
            pid,
            start_ticks: stat.start_ticks,
            at_ms: time::now().0,
        };
        record::save_pid(root, &spec.name, seen).context("its pid can't be written down")?;
    }
    Ok((child, pid))
}

/// What is run, without the process's own arguments.
fn program(root: &NodeRoot, spec: &ProcessSpec, guard: Option<&Path>) -> anyhow::Result<Command> {
    let process = root.path.join(&spec.command);
    if !lease::is_leased(root) {
        return Ok(Command::new(process));
    }
    // The guard would only say so in the process's log.
    std::fs::metadata(&process).context("the system refused to run it")?;
    let guard = match guard {
        Some(guard) => guard.to_owned(),
        None => std::env::current_exe().context("this program's own file can't be found")?,
    };
    let mut command = Command::new(guard);
    command
        .arg(GUARD_COMMAND)
        .arg(lease::path(root))
        .arg(process);
    Ok(command)
}

fn command(root: &NodeRoot, spec: &ProcessSpec, mut command: Command) -> anyhow::Result<Command> {
    root.dir.create_dir_all(LOGS_DIR)?;
    let log = Path::new(LOGS_DIR).join(format!("{}.log", spec.name));
    let output = root
        .dir
        .open_with(
            &log,
            OpenOptions::new().append(true).create(true).mode(0o640),
        )
        .context("its log can't be opened")?
        .into_std();
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    let marker = marker(root, &spec.name);
    let (key, value) = marker.split_once('=').unwrap_or((MARKER, ""));
    command
        .args(&spec.args)
        .current_dir(&root.path)
        .env_clear()
        .env("PATH", path)
        .env("HOME", &root.path)
        .envs(&spec.env)
        .env(key, value)
        .process_group(0)
        .kill_on_drop(false)
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output));
    Ok(command)
}
