//! Standard output of the host's commands.

use std::io::Write;

use anyhow::Context;

/// Writes a line.
pub(super) fn say(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("standard output is closed")
}
