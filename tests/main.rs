//! Integration tests: one binary, one module per area.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod agent;
mod api;
mod chain_configs;
mod console;
mod gateway;
mod plugins;
mod spine;
mod store;
mod support;
mod tidy;
mod workflow;
