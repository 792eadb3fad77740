//! What the agent knows of its machine and of the node's own folder.

use crate::Failure;
use crate::bindings::shared::bellwether::host::facts;

pub use facts::HostFacts;

/// Reads the facts now.
pub fn read() -> Result<HostFacts, Failure> {
    facts::read()
}
