//! `chains/{chain}/runtime.yaml`: ports, folders and the process of a node, for every node type.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalars::{ByteSize, DurationText, SchemaVersion};
use crate::time::duration_text;

/// Ports, folders and the process of a chain's nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Version of the file format.
    pub schema_version: SchemaVersion,
    /// Ports by name: `{{.Ports.<name>}}` in templates, `node:<name>` in grants.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, Port>,
    /// Folders of a node: `{{.Paths.<name>}}` in templates.
    #[serde(default)]
    pub paths: Paths,
    /// How the node's process runs; steps of type `process` start it.
    pub process: Process,
}

/// A port that a node listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The preferred port; the agent chooses another one when it is taken, and any when 0.
    pub default: u16,
}

/// Folders of a node, relative to the node's own folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Paths {
    /// Home of the node's software.
    pub home: String,
    /// The chain's data.
    pub data: String,
    /// Configuration files.
    pub config: String,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            home: ".".to_owned(),
            data: "data".to_owned(),
            config: "config".to_owned(),
        }
    }
}

/// The process of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The runtime adapter.
    #[serde(default)]
    pub adapter: Adapter,
    /// Program, relative to the node's folder, or absolute; a template.
    pub command: String,
    /// Arguments, one template each; no shell interprets them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment; values are templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What happens when the process exits.
    #[serde(default)]
    pub restart: Restart,
    /// Time between SIGTERM and SIGKILL.
    #[serde(default = "default_stop_grace", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub stop_grace: Duration,
    /// The log files of its output.
    #[serde(default)]
    pub log: ProcessLog,
}

fn default_stop_grace() -> Duration {
    Duration::from_secs(30)
}

/// Runtime adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Adapter {
    /// A child process of the agent.
    #[default]
    Process,
}

/// What happens when a process exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// When it is restarted.
    pub policy: RestartPolicy,
    /// Pause before the first restart; it doubles.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub backoff: Duration,
    /// The longest pause.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub backoff_max: Duration,
    /// Restarts within ten minutes after which the agent gives up; 0 means never.
    pub max_restarts: u32,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::OnFailure,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_mins(1),
            max_restarts: 10,
        }
    }
}

/// When a process is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RestartPolicy {
    /// After every exit.
    Always,
    /// After a failure or a signal.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

/// The log files of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessLog {
    /// The maximum size of one file.
    pub max_size: ByteSize,
    /// The number of files.
    #[schemars(range(min = 1, max = 100))]
    pub files: u32,
}

impl Default for ProcessLog {
    fn default() -> Self {
        Self {
            max_size: ByteSize(10 << 20),
            files: 3,
        }
    }
}
