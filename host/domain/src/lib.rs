//! The pure centre: objects, state machines and rules (design: domain.md).
//!
//! Nothing here waits, reads, writes or asks for the time; every decision is a function of its arguments.

pub mod ids;
pub mod time;

pub mod observation;
pub mod plugin;

pub mod config;
