//! Keys of nodes beyond the local master key, against the real servers.

mod backup;
mod host;
mod people;
mod vault;
