//! Facts about the agent's machine and the node's folder.

use crate::Failure;
use crate::bindings::shared::bellwether::host::facts;

pub use facts::MachineFacts;

/// Reads the facts now.
pub fn read() -> Result<MachineFacts, Failure> {
    facts::read()
}
