//! The settings of the workflow engine; secrets are only named by their files.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};
use url::Url;

/// The workflow engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkflowsConfig {
    /// `duroxide`: inside one host, on its own file. `temporal`: a Temporal server that all hosts of the database
    /// share.
    pub engine: EngineKind,
    /// The connection to Temporal.
    pub temporal: TemporalConfig,
    /// A workflow without progress for this long raises an incident.
    #[serde(with = "duration_text")]
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

/// A workflow engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Inside one host.
    #[default]
    Duroxide,
    /// A server that all hosts share.
    Temporal,
}

/// The connection to Temporal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemporalConfig {
    /// `http://HOST:7233`, or `https://…` for TLS.
    pub url: Option<Url>,
    /// The namespace of this installation; the same on all of its hosts.
    pub namespace: String,
    /// Whether the host creates a missing namespace.
    pub create_namespace: bool,
    /// How long a created namespace keeps ended workflows; their ids stay reserved for as long.
    #[serde(with = "duration_text")]
    pub retention: Duration,
    /// The task queue that all hosts of this installation share, and no other program.
    pub task_queue: String,
    /// PEM file with the certificate authority of the server, when the system does not trust it.
    pub ca_file: Option<PathBuf>,
    /// PEM file with the client certificate of this host.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with the private key of the client certificate.
    pub client_key_file: Option<PathBuf>,
    /// The name in the server's certificate, when it differs from the name in the URL.
    pub server_name: Option<String>,
    /// A file with an API key of Temporal Cloud.
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
