//! The `workflows` section of the configuration. Keys are named only by the files that hold them.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// The engine that runs workflows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WorkflowsConfig {
    /// `duroxide` runs inside one host and keeps its state in a file; `temporal` uses a Temporal server that all hosts of the installation share.
    pub engine: EngineKind,
    /// How hosts connect to the Temporal server. Only `engine: temporal` uses it.
    pub temporal: TemporalConfig,
    /// The host opens an incident for a workflow that made no progress for this long.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub stalled_after: Duration,
}

impl Default for WorkflowsConfig {
    fn default() -> Self {
        Self {
            engine: EngineKind::default(),
            temporal: TemporalConfig::default(),
            stalled_after: Duration::from_mins(30),
        }
    }
}

/// An engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Inside one host.
    #[default]
    Duroxide,
    /// A server that all hosts share.
    Temporal,
}

/// How hosts connect to the Temporal server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TemporalConfig {
    /// Address of the server: `http://HOST:7233`, or `https://…` for TLS.
    #[schemars(example = "https://temporal.internal:7233")]
    pub url: Option<Url>,
    /// Namespace of the installation's workflows; the same on all hosts.
    pub namespace: String,
    /// Whether the host creates the namespace when it does not exist.
    pub create_namespace: bool,
    /// How long a namespace that the host creates keeps closed workflows; their ids stay reserved for as long.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub retention: Duration,
    /// Task queue that all hosts of the installation share, and no other program uses.
    pub task_queue: String,
    /// File with the CA certificates, in PEM, that verify the server; the system's certificates when absent.
    pub ca_file: Option<PathBuf>,
    /// File with this host's client certificate, in PEM.
    pub client_cert_file: Option<PathBuf>,
    /// File with the private key of the client certificate, in PEM.
    pub client_key_file: Option<PathBuf>,
    /// Name in the server's certificate, when it differs from the host in `url`.
    pub server_name: Option<String>,
    /// File with an API key for Temporal Cloud.
    pub api_key_file: Option<PathBuf>,
}

impl Default for TemporalConfig {
    fn default() -> Self {
        Self {
            url: None,
            namespace: "default".to_owned(),
            create_namespace: false,
            retention: Duration::from_hours(30 * 24),
            task_queue: "bellwether".to_owned(),
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            server_name: None,
            api_key_file: None,
        }
    }
}
