//! Lines for the host's log. Lines over the plugin's limit are counted and dropped.

use crate::bindings::shared::bellwether::host::log::{Level, write};

/// What only the plugin's author wants to know.
pub fn debug(message: impl AsRef<str>) {
    write(Level::Debug, message.as_ref());
}

/// What an operator may want to know.
pub fn info(message: impl AsRef<str>) {
    write(Level::Info, message.as_ref());
}

/// What an operator should look at some day.
pub fn warn(message: impl AsRef<str>) {
    write(Level::Warn, message.as_ref());
}

/// What an operator should look at.
pub fn error(message: impl AsRef<str>) {
    write(Level::Error, message.as_ref());
}
