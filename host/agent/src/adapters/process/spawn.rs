//! Starts a process so that it outlives the agent and never runs twice.
//!
//! The process gets its lock as standard input. It runs exactly when nobody else can take the lock, whatever happens to
//! the agent.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use cap_std::fs::{OpenOptions, OpenOptionsExt as _};
use tokio::process::{Child, Command};

use super::guard::GUARD_COMMAND;
use super::spec::{self, PidRecord, ProcessSpec};
use crate::node_root::{LOGS_DIR, NodeRoot};
use crate::process_group::{self, MARKER, marker_value};
use crate::{lease, time};

/// The PATH of processes when the agent itself has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Attempts while another process still has the program's file open for writing.
const BUSY_ATTEMPTS: u32 = 20;

/// Runs the process, under a guard when the node holds keys. `lock` becomes its standard input.
pub(crate) async fn spawn(
    root: &NodeRoot,
    spec: &ProcessSpec,
    guard: Option<&Path>,
    lock: File,
) -> anyhow::Result<(Child, i32)> {
    let program = program(root, spec, guard)?;
    let mut command = command(root, spec, program)?;
    command.stdin(Stdio::from(lock));
    let mut attempt = 0;
    let child = loop {
        match command.spawn() {
            // A child that another thread is just forking may still have a fresh binary open for writing. This takes
            // milliseconds.
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy && attempt < BUSY_ATTEMPTS =>
            {
                attempt += 1;
                time::sleep(Duration::from_millis(50)).await;
            }
            other => break other.context("the operating system refused to run it")?,
        }
    };
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.context("it exited before the agent read its pid")?;
    if let Some(stat) = process_group::stat(pid) {
        let record = PidRecord {
            pid,
            start_ticks: stat.start_ticks,
            at_ms: time::now().0,
        };
        spec::save_pid(root, &spec.name, record).context("the agent can't write its pid file")?;
    }
    Ok((child, pid))
}

/// The program to run, without the process's own arguments.
fn program(root: &NodeRoot, spec: &ProcessSpec, guard: Option<&Path>) -> anyhow::Result<Command> {
    let process = root.path.join(&spec.command);
    if !lease::is_leased(root) {
        return Ok(Command::new(process));
    }
    // The guard could report a missing program only in the process's log.
    std::fs::metadata(&process).context("the operating system refused to run it")?;
    let guard = match guard {
        Some(guard) => guard.to_owned(),
        None => std::env::current_exe().context("the agent can't find its own program file")?,
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
        .context("the agent can't open its log")?
        .into_std();
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    command
        .args(&spec.args)
        .current_dir(&root.path)
        .env_clear()
        .env("PATH", path)
        .env("HOME", &root.path)
        .envs(&spec.env)
        .env(MARKER, marker_value(root, &spec.name))
        .process_group(0)
        .kill_on_drop(false)
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(output));
    Ok(command)
}
