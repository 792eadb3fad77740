//! Integration tests: one binary, one module per area.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests meet real processes and servers, which know no clock of ours"
)]

mod agent;
mod api;
mod bus;
mod chain_configs;
mod console;
mod gateway;
mod keys;
mod plugins;
mod providers;
mod reference;
mod secrets;
mod spine;
mod store;
mod support;
mod tidy;
mod trouble;
mod workflow;
