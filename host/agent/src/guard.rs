//! The guard of a process that holds keys: it ends the process when the node's lease is over.
//!
//! An agent that is killed or hangs keeps no lease, so each such process has a guard of its own, which the process can't
//! outlive: the kernel kills it when the guard is gone. The guard is a command of the agent's own program and lives in
//! the process's group; it only reads the lease, tells the process to end a while before, and then kills.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::adapters::process::{MARKER, kill_in_own_group, kill_marked};
use crate::lease::{Standing, standing};
use crate::time;

/// The guard, by the agent.
pub(crate) const GUARD_COMMAND: &str = "__guard-process";
/// What becomes the process, by the guard.
const GUARDED_COMMAND: &str = "__guarded-process";
/// How often the lease is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The status of a process whose lease is over.
const OVER: u8 = 75;
/// The status of a process that can't be run.
const NOT_RUN: u8 = 127;
/// Looks for what is left of a killed group.
const KILLS_MAX: u32 = 100;

/// Runs as a guard when these words (the arguments after the program's name) ask for it; `None` when they do not.
/// Programs that run an agent ask this before anything else.
pub fn answer_guard(mut words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match words.next()?.to_str()? {
        GUARD_COMMAND => {
            let lease = PathBuf::from(words.next()?);
            Some(guard(&lease, &words.collect::<Vec<_>>()))
        }
        GUARDED_COMMAND => Some(become_process(words)),
        _ => None,
    }
}

fn guard(lease: &Path, process: &[OsString]) -> ExitCode {
    // One thread: the kernel watches the thread that starts the process.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.and_then(|runtime| runtime.block_on(watch(lease, process)));
    match ended {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&format!(
                "the process can't be guarded and is not run: {error}"
            ));
            ExitCode::from(NOT_RUN)
        }
    }
}

async fn watch(lease: &Path, process: &[OsString]) -> std::io::Result<u8> {
    // Signals to the group are the process's to act on. They are caught and not ignored, which the process would inherit.
    let caught = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    let _caught = caught.map(signal);
    if standing(lease) != Standing::Runs {
        return Ok(OVER);
    }
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command
        .arg(GUARDED_COMMAND)
        .arg(std::process::id().to_string());
    let mut child = command.args(process).spawn()?;
    let mut is_told = false;
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(status_code(ended?)),
            () = time::sleep(LOOK) => {}
        }
        match standing(lease) {
            Standing::Runs => is_told = false,
            Standing::Ending if is_told => {}
            Standing::Ending => {
                say("the host does not confirm this node; the process is told to end");
                is_told = true;
                tell(&child, Signal::TERM);
            }
            Standing::Over => return Ok(kill_all(child).await),
        }
    }
}

/// Leaves nothing of the process, whatever it started.
async fn kill_all(mut child: Child) -> u8 {
    say("the lease is over; the process is killed");
    for _ in 0..KILLS_MAX {
        // Groups of its own that the process may have made are found by the marker that all inherit.
        let marker = std::env::var(MARKER).map(|value| kill_marked(&format!("{MARKER}={value}")));
        let n_left = marker.unwrap_or_default() + kill_in_own_group();
        if child.try_wait().is_ok_and(|ended| ended.is_some()) && n_left == 0 {
            break;
        }
        time::sleep(LOOK / 10).await;
    }
    OVER
}

fn tell(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw) {
        // One that ended meanwhile needs no signal.
        let _ = kill_process(pid, signal);
    }
}

/// As shells tell it: the status, or 128 and the signal.
fn status_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Turns into the process, which ends with its guard.
fn become_process(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let guard = words.next().and_then(|pid| pid.to_str()?.parse().ok());
    let program = words.next();
    let (Some(guard), Some(program)) = (guard.and_then(Pid::from_raw), program) else {
        return ExitCode::from(NOT_RUN);
    };
    let is_bound = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    // A guard that ended before it was bound would kill nobody.
    if !is_bound || getppid() != Some(guard) {
        return ExitCode::from(NOT_RUN);
    }
    let error = Command::new(&program).args(words).exec();
    say(&format!(
        "{} can't be run: {error}",
        Path::new(&program).display()
    ));
    ExitCode::from(NOT_RUN)
}

/// Into the process's own log, which is this program's error output.
fn say(text: &str) {
    eprintln!("bellwether: {text}");
}
