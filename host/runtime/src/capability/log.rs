//! `bellwether:host/log`: lines in the host's log, marked with the plugin and the node.
//!
//! A guest writes what it likes, so lines are cut, their control characters escaped, and their number per call bounded.

use crate::bindings::shared::bellwether::host::log::{Host, Level};
use crate::state::HostState;

/// Longer lines are cut here.
const LINE_BYTES_MAX: usize = 4096;

impl Host for HostState {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.count_call()?;
        self.log(level, &message);
        Ok(())
    }
}

impl HostState {
    /// Writes one line while the call has lines left.
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        if self.log_lines_left == 0 {
            self.log_lines_dropped += 1;
            return;
        }
        self.log_lines_left -= 1;
        let message = cut(message, LINE_BYTES_MAX);
        let plugin = self.plugin.name.as_str();
        let revision = self.plugin.digest.short();
        let node = self.node_id();
        match level {
            Level::Debug => {
                tracing::debug!(target: "plugin", plugin, revision, node, "{message:?}");
            }
            Level::Info => tracing::info!(target: "plugin", plugin, revision, node, "{message:?}"),
            Level::Warn => tracing::warn!(target: "plugin", plugin, revision, node, "{message:?}"),
            Level::Error => {
                tracing::error!(target: "plugin", plugin, revision, node, "{message:?}");
            }
        }
    }
}

/// The beginning of `text`, at most `max` bytes, cut between characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn lines_are_cut_between_characters() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 0), "");
    }
}
