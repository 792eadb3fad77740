//! The guard of a process that holds keys: it stops the process before the node's lease expires.
//!
//! An agent that was killed or hangs enforces no lease, so each such process has a guard. The process can't outlive its
//! guard: the kernel kills the process when the guard ends. The guard is a command of the agent's program and a member of
//! the process's group. It reads the lease, sends SIGTERM some time before the lease expires, and then SIGKILL.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::lease::{LeaseState, lease_state};
use crate::process_group::{MARKER, kill_in_own_group, kill_marked};
use crate::time;

/// Starts a guard.
pub(super) const GUARD_COMMAND: &str = "__guard-process";
/// Starts the child of a guard, which becomes the process.
const GUARDED_COMMAND: &str = "__guarded-process";
/// How often the guard reads the lease.
const POLL: Duration = Duration::from_millis(200);
/// The exit status after the lease has expired.
const EXPIRED: u8 = 75;
/// The exit status when the process can't be run.
const NOT_RUN: u8 = 127;
/// How often the guard kills what remains of the group.
const KILLS_MAX: u32 = 100;

/// Runs a guard when these arguments (those after the program's name) ask for one; returns `None` otherwise.
/// A program that runs an agent must call this before anything else.
pub fn answer_guard(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match args.next()?.to_str()? {
        GUARD_COMMAND => {
            let lease = PathBuf::from(args.next()?);
            Some(guard(&lease, &args.collect::<Vec<_>>()))
        }
        GUARDED_COMMAND => Some(become_process(args)),
        _ => None,
    }
}

fn guard(lease: &Path, process: &[OsString]) -> ExitCode {
    // The kernel kills the process when the thread that started it ends, so the runtime has only one thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.and_then(|runtime| runtime.block_on(watch(lease, process)));
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log(&format!(
                "the guard failed, so the process does not run: {error}"
            ));
            ExitCode::from(NOT_RUN)
        }
    }
}

async fn watch(lease: &Path, process: &[OsString]) -> std::io::Result<u8> {
    // Signals to the group are meant for the process. The guard catches them; the process would inherit ignored ones.
    let caught = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    let _caught = caught.map(signal);
    if lease_state(lease) != LeaseState::Valid {
        return Ok(EXPIRED);
    }
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command
        .arg(GUARDED_COMMAND)
        .arg(std::process::id().to_string());
    let mut child = command.args(process).spawn()?;
    let mut is_signalled = false;
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(status_code(ended?)),
            () = time::sleep(POLL) => {}
        }
        match lease_state(lease) {
            LeaseState::Valid => is_signalled = false,
            LeaseState::Expiring if is_signalled => {}
            LeaseState::Expiring => {
                log(
                    "the host has not confirmed this node in time; the guard sends SIGTERM to the process",
                );
                is_signalled = true;
                signal_child(&child, Signal::TERM);
            }
            LeaseState::Expired => return Ok(kill_all(child).await),
        }
    }
}

/// Kills the process and everything that it started.
async fn kill_all(mut child: Child) -> u8 {
    log("the lease has expired; the process is killed");
    for _ in 0..KILLS_MAX {
        // The process may have created further groups. Their members inherited the marker.
        let marker = std::env::var(MARKER).map(|value| kill_marked(&format!("{MARKER}={value}")));
        let n_left = marker.unwrap_or_default() + kill_in_own_group();
        if child.try_wait().is_ok_and(|ended| ended.is_some()) && n_left == 0 {
            break;
        }
        time::sleep(POLL / 10).await;
    }
    EXPIRED
}

fn signal_child(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // The only failure is that the process has already ended.
        let _ = kill_process(pid, signal);
    }
}

/// The exit status as shells report it: the status, or 128 plus the signal.
fn status_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Becomes the process, which ends with its guard.
fn become_process(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let guard = args.next().and_then(|pid| pid.to_str()?.parse().ok());
    let program = args.next();
    let (Some(guard), Some(program)) = (guard.and_then(Pid::from_raw), program) else {
        return ExitCode::from(NOT_RUN);
    };
    let is_bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    // If the guard ended before the kernel knew of the bond, nothing would kill the process.
    if !is_bound || getppid() != Some(guard) {
        return ExitCode::from(NOT_RUN);
    }
    let error = Command::new(&program).args(args).exec();
    log(&format!(
        "`{}` can't be run: {error}",
        Path::new(&program).display()
    ));
    ExitCode::from(NOT_RUN)
}

/// Writes to the process's own log, which is the standard error of this program.
fn log(text: &str) {
    eprintln!("bellwether: {text}");
}
