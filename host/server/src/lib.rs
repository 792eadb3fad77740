//! The host: API, store, workflows, health, gateway, console and the `bellwether` command (design: architecture.md).
//!
//! Inside, `main` ► `app` ► `api` ► `ops` ► `store`, `engine`, `reconcile`, `gateway`; nothing points back.

pub mod cli;
pub mod clock;
pub mod engine;
pub mod gateway;
pub mod ops;
pub mod store;
