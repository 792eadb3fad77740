//! Runs commands: prints each one first, and names it in the error when it fails.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a command and shows its output; a failure is an error.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let text = shown(&command);
    eprintln!("+ {text}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{text}`"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Whether a command succeeds; its output is discarded.
pub(crate) fn quiet(mut command: Command) -> bool {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(program)
        .chain(args)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A cargo command, run by the cargo that started this program.
pub(crate) fn cargo<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args.into_iter().map(Into::into));
    command
}
