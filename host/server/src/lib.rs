//! The host: API, store, workflows, health, gateway, console and the `bellwether` command (design: architecture.md).
//!
//! Inside, `main` ► `app` ► `api` ► `ops` ► `store`, `engine`, `reconcile`, `gateway`; nothing points back.

pub mod api;
pub mod app;
pub mod chains;
pub mod cli;
pub mod config;
pub mod dev;
pub mod gateway_store;
pub mod host;
pub mod ops;
pub mod serve;

mod activities;
mod catalogue;
mod guard;
mod installation;
mod loops;
mod orchestration;
mod reconcile;
mod reload;
mod wakes;
mod watch;

#[cfg(test)]
mod test_bed;
