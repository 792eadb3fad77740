//! Events and observations that wait until the host has stored them.
//!
//! Results of commands wait in the journal, next to their commands.

pub(crate) mod events;
pub(crate) mod observations;
