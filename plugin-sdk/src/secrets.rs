//! Handles to secrets: the value never enters the plugin; [`http`](crate::http) puts it into a header.

use crate::Failure;
use crate::bindings::shared::bellwether::host::secrets;

pub use secrets::Secret;

/// A handle to a granted secret.
pub fn get(name: &str) -> Result<Secret, Failure> {
    secrets::get(name)
}
