//! A health policy that reaches for a capability outside its world: it must be refused before it is compiled.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::policy::{Row, Sync, Verdict};
use bellwether_plugin_sdk::{HealthPolicy, http, register};

/// Nothing to set.
#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Config {}

struct HttpPolicy;

impl HealthPolicy for HttpPolicy {
    type Config = Config;
    const READS: &[&str] = &["node.height@last"];

    fn judge(_config: &Config, _row: Row<'_>) -> Verdict {
        let reached = http::get("http://192.0.2.1/").send().is_ok();
        Verdict::ok(if reached { Sync::Synced } else { Sync::Unknown })
    }
}

register!(health_policy: HttpPolicy);
