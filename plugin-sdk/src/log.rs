//! Writes lines to the host's log. The host counts and drops lines over the plugin's limit.

use crate::bindings::shared::bellwether::host::log::{Level, write};

/// A line for the plugin's author.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// A line for operators.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// A line about a problem that can wait.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// A line about a problem that an operator must fix.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}
