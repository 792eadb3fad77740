//! Runs other programs with a time limit; an error contains the program's own output.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Command;
use tokio::time::timeout;

/// Lines of a program's standard error in our error.
const ERROR_LINES_MAX: usize = 20;

/// Settings of the caller that must not reach a build of std or of plugins.
const FOREIGN_VARIABLES: [&str; 8] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTUP_TOOLCHAIN",
];

/// Cargo without the settings of the caller, who may be cargo itself.
pub(super) fn clean_cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for name in FOREIGN_VARIABLES {
        cargo.env_remove(name);
    }
    cargo
}

/// The folder where cargo keeps the sources of registries.
pub(super) fn cargo_home() -> Option<PathBuf> {
    let set = env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

/// Runs a program to its end and returns its standard output. The error of a failure has the end of its standard error.
pub(super) async fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let name = shown(command);
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let Ok(run) = timeout(limit, run).await else {
        bail!("`{name}` did not end within {} s", limit.as_secs());
    };
    let output = run.with_context(|| format!("`{name}` can't be started"))?;
    if !output.status.success() {
        bail!(
            "`{name}` failed ({}):\n{}",
            output.status,
            last_lines(&output.stderr)
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("the output of `{name}` is not UTF-8"))
}

/// Whether a program starts and succeeds.
pub(super) async fn succeeds(command: &mut Command, limit: Duration) -> bool {
    output(command, limit).await.is_ok()
}

/// The program and its arguments, for messages.
pub(super) fn shown(command: &Command) -> String {
    let command = command.as_std();
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(ERROR_LINES_MAX)..].join("\n")
}
