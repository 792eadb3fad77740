//! Plugin secrets and plugin state on the real thing: values from files, the environment and a vault, guests that use them,
//! a listener that records headers, and kill -9 of host and agent.

mod agent;
mod canary;
mod host;
mod runtime;
pub(crate) mod vault;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What basic authentication makes of a secret of the user `ops`.
fn basic_of(secret: &str) -> String {
    STANDARD.encode(format!("ops:{secret}"))
}
