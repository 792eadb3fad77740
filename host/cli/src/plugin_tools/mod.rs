//! The plugin tools: a Rust compiler for WebAssembly, and components built with it. They need no host.

mod build;
mod debian;
mod process;
mod toolchain;

pub(crate) use build::build;
