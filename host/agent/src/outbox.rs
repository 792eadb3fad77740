//! What waits for the host: events and observations, kept until the host says that it has stored them.
//!
//! Results of commands wait in the journal instead, beside what they are the result of.

pub(crate) mod events;
pub(crate) mod observations;
