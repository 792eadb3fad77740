//! What a plugin is, its grants and its limits, as data; `host-runtime` enforces them.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::observation::ObservationKind;
use crate::time::duration_text;

/// The kind of a plugin, which determines the world that its component implements.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    /// Measures a node.
    Collector,
    /// Judges nodes by their observations.
    HealthPolicy,
    /// Delivers notifications to people.
    Notifier,
}

impl PluginKind {
    /// The name in YAML, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::HealthPolicy => "health-policy",
            Self::Notifier => "notifier",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host interface that a plugin can import.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Log lines; always granted.
    Log,
    /// The time; always granted to kinds whose world has it.
    Clock,
    /// Metrics under the plugin's name; always granted to kinds whose world has it.
    Metrics,
    /// Load, memory and disk of the machine; always granted to kinds whose world has it.
    Facts,
    /// A small store whose content survives calls.
    Kv,
    /// Handles to secrets.
    Secrets,
    /// HTTP requests to granted targets.
    Http,
}

/// A special address range that a grant opens for a target; without it, plugins reach only public addresses.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AddressRange {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// 10/8, 172.16/12, 192.168/16, 100.64/10 and fc00::/7.
    Private,
    /// 169.254/16 and fe80::/10, where clouds keep their metadata.
    LinkLocal,
}

/// One target that a plugin may send HTTP requests to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// `node:rpc` for a port of the node itself, or an absolute URL: scheme, host and port must be equal, and the path must start with the granted one.
    pub target: String,
    /// Address ranges that the target's name may resolve to besides public addresses. A `node:` target needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressRange>,
}

/// What a plugin may access. By default only log, clock, metrics and facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    /// The targets that it may send HTTP requests to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpGrant>,
    /// The names of the secrets that it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// Whether it may store state between calls.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kv: bool,
}

impl Grants {
    /// The capabilities that these grants allow.
    pub fn capabilities(&self) -> BTreeSet<Capability> {
        let mut open = BTreeSet::from([
            Capability::Log,
            Capability::Clock,
            Capability::Metrics,
            Capability::Facts,
        ]);
        if !self.http.is_empty() {
            open.insert(Capability::Http);
        }
        if !self.secrets.is_empty() {
            open.insert(Capability::Secrets);
        }
        if self.kv {
            open.insert(Capability::Kv);
        }
        open
    }
}

/// The limits of one call of a plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Linear memory, in MiB.
    pub memory_mib: u32,
    /// The time limit for the guest's computing.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub cpu: Duration,
    /// The time limit of the whole call, including waits for the host.
    #[serde(with = "duration_text")]
    #[schemars(with = "String")]
    pub wall: Duration,
    /// The maximum size of one HTTP request or response body, in KiB.
    pub http_body_kib: u32,
    /// The maximum number of host calls in one call of the guest.
    pub host_calls: u32,
    /// The maximum number of log lines in one call of the guest.
    pub log_lines: u32,
}

impl Limits {
    /// The defaults of a kind.
    pub fn of(kind: PluginKind) -> Self {
        let (cpu, wall) = match kind {
            PluginKind::HealthPolicy => (Duration::from_millis(100), Duration::from_secs(1)),
            PluginKind::Collector => (Duration::from_secs(1), Duration::from_secs(10)),
            PluginKind::Notifier => (Duration::from_secs(1), Duration::from_secs(15)),
        };
        Self {
            memory_mib: 64,
            cpu,
            wall,
            http_body_kib: 1024,
            host_calls: 1_000,
            log_lines: 100,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(PluginKind::Collector)
    }
}

/// An observation that a collector declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservationSpec {
    /// Dotted name.
    pub name: String,
    /// Unit; empty for flags and labels.
    pub unit: String,
    /// How values change over time.
    pub kind: ObservationKind,
    /// One sentence for people.
    pub summary: String,
}

/// What a plugin declares about itself (`about.describe()`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The plugin's id.
    pub name: String,
    /// Semantic version.
    pub version: String,
    /// Its kind.
    pub kind: PluginKind,
    /// One sentence for people.
    pub summary: String,
    /// JSON Schema (2020-12) of its configuration.
    pub config_schema: String,
    /// Capabilities that it requires.
    pub wants: BTreeSet<Capability>,
    /// The observations of a collector.
    pub emits: Vec<ObservationSpec>,
    /// The columns that a policy reads.
    pub reads: Vec<String>,
}
