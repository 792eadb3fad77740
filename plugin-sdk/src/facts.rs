//! What the agent knows of its machine and of the node's own folder.

use crate::Failure;
use crate::bindings::shared::bellwether::host::facts;

pub use facts::MachineFacts;

/// Reads the facts now.
pub fn read() -> Result<MachineFacts, Failure> {
    facts::read()
}
