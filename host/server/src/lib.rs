//! The host: API, store, workflows, health, gateway, console, and the commands that run a host or open its database.
//!
//! **Entry points:** [`commands`] for the program `bellwether`; [`host::Host`] for whoever runs a host in its own process.
//!
//! **Invariant:** `commands` ► `app` ► `api` ► `ops` ► `store`, `engine`, `reconcile`, `gateway`; nothing points back.

pub mod api;
pub mod app;
pub mod chains;
pub mod commands;
pub mod config;
pub mod gateway_store;
pub mod host;
pub mod metrics;
pub mod ops;

mod activities;
mod catalogue;
mod guard;
mod installation;
mod loops;
mod orchestration;
mod plugin_kv;
mod reconcile;
mod reload;
mod wakes;
mod watch;

#[cfg(test)]
mod test_bed;
