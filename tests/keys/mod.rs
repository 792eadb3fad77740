//! Keys of nodes beyond the local master key, against the real servers.

mod host;
mod vault;
