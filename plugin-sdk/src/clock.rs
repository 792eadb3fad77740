//! The host's clock, which is the only clock of a plugin.

use crate::bindings::shared::bellwether::host::clock;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    clock::now_ms()
}
