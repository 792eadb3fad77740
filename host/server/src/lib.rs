//! The host: its HTTP API, use cases, workflow activities, loops, agent gateway and console, and the commands that run it.
//!
//! **Entry points:** [`commands`] for the program `bellwether`; [`host::Host`] for a process that embeds a host.
//!
//! **Layers:** `commands` and `host` start everything and build `services`; `api` calls the use cases in [`ops`]; `ops` holds the
//! transactions; `activities` and `reconcile` use the same functions of `ops` for workflows and loops.
//!
//! **Invariant:** nothing points back: `ops` knows neither HTTP nor loops, `api` can't reach the store, and only startup and the
//! registration functions of activities and loops see all services.

pub mod api;
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
mod orchestration;
mod plugin_kv;
mod reconcile;
mod services;
mod tasks;
mod wakes;
mod watch;

#[cfg(test)]
mod test_bed;
