//! Output: tables with colours for people at a terminal, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{Cell, Color, ContentArrangement, Table};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::error::CliError;

/// Writes a line. A closed standard output (`| head`) is no error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Writes the JSON of the API.
pub(crate) fn json(value: &Value) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?;
    say(&text);
    Ok(())
}

/// A table with these columns. It fits the terminal; without one it has no colours.
pub(crate) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|name| Cell::new(name.to_uppercase())));
    table
}

/// Writes a table, or a sentence when it is empty.
pub(crate) fn show(table: &Table, empty: &str) {
    if table.row_count() == 0 {
        say(empty);
    } else {
        say(&table.trim_fmt());
    }
}

/// Text without control characters, which a terminal would execute.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}

/// Indented lines without control characters.
pub(crate) fn plain_lines(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  {}", plain(line)));
    lines.collect::<Vec<_>>().join("\n")
}

/// A state in its colour.
pub(crate) fn state(name: &str) -> Cell {
    Cell::new(name).fg(match name {
        "healthy" | "ok" | "succeeded" | "active" | "resolved" | "done" | "connected" => {
            Color::Green
        }
        "degraded" | "warning" | "acknowledged" | "undoing" | "undone" | "maintenance"
        | "escalated" | "past_due" | "suspended" => Color::Yellow,
        "down" | "critical" | "failed" | "rejected" | "broken" | "open" => Color::Red,
        "terminated" | "retired" | "unknown" | "cancelled" | "pending" | "disconnected"
        | "revoked" | "canceled" | "expired" => Color::DarkGrey,
        _ => Color::Cyan,
    })
}

/// The word of the API for a value of one of its enumerations.
pub(crate) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// Time since then in the largest unit, such as `3m`.
pub(crate) fn ago(at: Timestamp) -> String {
    let passed = Timestamp::now()
        .duration_since(at)
        .max(SignedDuration::ZERO);
    let seconds = passed.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
