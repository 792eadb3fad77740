//! The host's clock; a guest has no other.

use crate::bindings::shared::bellwether::host::clock;

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    clock::now_ms()
}
