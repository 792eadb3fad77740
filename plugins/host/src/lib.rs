//! Measures the machine of a node.
//!
//! The plugin has no file system: the agent provides the numbers without any path.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::{
    Capability, Collector, Emits, Failure, Node, Observation, facts, register,
};

/// There are no settings.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct Host;

impl Collector for Host {
    type Config = Config;
    const WANTS: &[Capability] = &[Capability::Facts];
    const EMITS: &[Emits] = &[
        Emits::gauge("host.load1", "", "Load average of the last minute."),
        Emits::gauge("host.memory_used_pct", "%", "Memory in use."),
        Emits::gauge(
            "host.disk_used_pct",
            "%",
            "Use of the file system that holds the node's folder.",
        ),
        Emits::gauge(
            "host.disk_free_bytes",
            "bytes",
            "Free space of the file system that holds the node's folder.",
        ),
    ];

    fn collect(_node: &Node, _config: &Config) -> Result<Vec<Observation>, Failure> {
        let facts = facts::read()?;
        Ok(vec![
            Observation::new("host.load1", facts.load1),
            Observation::new(
                "host.memory_used_pct",
                percent(facts.memory_used_bytes, facts.memory_total_bytes),
            ),
            Observation::new(
                "host.disk_used_pct",
                percent(facts.disk_used_bytes, facts.disk_total_bytes),
            ),
            Observation::new(
                "host.disk_free_bytes",
                facts.disk_total_bytes.saturating_sub(facts.disk_used_bytes),
            ),
        ])
    }
}

/// A share in percent; a whole of zero has none.
#[expect(
    clippy::cast_precision_loss,
    reason = "a percentage needs no more than 52 bits"
)]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64 * 100.0)
}

register!(collector: Host);

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percents() {
        assert_eq!(percent(1, 4), Some(25.0));
        assert_eq!(percent(0, 0), None);
    }
}
