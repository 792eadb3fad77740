//! What every part of the host takes from the operating system: the wall clock, and private files and folders.
//!
//! Entry points: [`SystemClock`], [`write_private`], [`private_folder`].
//! Invariant: this is the only crate of the host that reads the wall clock; everything else is given a
//! [`Clock`](host_domain::time::Clock).

mod clock;
mod files;

pub use clock::SystemClock;
pub use files::{private_folder, write_private};
