//! Running commands: said before, and an error that names them.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Runs a command with its output shown; a failure is an error.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let text = shown(&command);
    eprintln!("+ {text}");
    let status = command
        .status()
        .with_context(|| format!("`{text}` can't be started"))?;
    if !status.success() {
        bail!("`{text}` failed ({status})");
    }
    Ok(())
}

/// Whether a command succeeds; nothing of it is shown.
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
