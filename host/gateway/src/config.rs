//! The gateway's section of the configuration, and the options that the host sets itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The gRPC server that agents connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Address and port to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Host names and IP addresses under which agents reach the gateway, besides `localhost`, `127.0.0.1` and `::1`; the gateway's certificate lists them.
    pub names: Vec<String>,
    /// How often an agent's session polls for commands, in case a wake-up was lost.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub poll_interval: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
            names: Vec::new(),
            poll_interval: Duration::from_secs(15),
        }
    }
}

/// Limits and intervals that the host sets: from other sections of the configuration, or in tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayOptions {
    /// How often agents send a beat.
    pub beat_interval: Duration,
    /// Shortest pause between two writes of beats to the database.
    pub beat_flush_interval: Duration,
    /// Agents that may be connected to this process.
    pub sessions_max: usize,
    /// The gateway ends the session of an agent that takes longer to receive a message.
    pub send_timeout: Duration,
    /// How long open calls may take to end when the host stops.
    pub stop_grace: Duration,
    /// How long processes with keys may run after each answer of the host.
    pub lease: Duration,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            beat_interval: Duration::from_secs(15),
            beat_flush_interval: Duration::from_millis(500),
            sessions_max: 10_000,
            send_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            lease: Duration::from_mins(5),
        }
    }
}
