//! Which engine runs the workflows, and where it is. Keys are only ever named by their files.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};
use url::Url;

/// The workflow engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkflowsConfig {
    /// `duroxide`: inside one host, on a file of its own. `temporal`: every host of the database works for a Temporal.
    pub engine: EngineKind,
    /// Where the Temporal is.
    pub temporal: TemporalConfig,
    /// A workflow in which nothing happened for so long is an incident.
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

/// An engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EngineKind {
    /// Inside one host.
    #[default]
    Duroxide,
    /// A server that all hosts share.
    Temporal,
}

/// Where the Temporal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TemporalConfig {
    /// `http://HOST:7233`, or `https://…` for TLS.
    pub url: Option<Url>,
    /// Where the workflows of this installation live; the same on all of its hosts.
    pub namespace: String,
    /// Whether a missing namespace is made.
    pub create_namespace: bool,
    /// How long a made namespace keeps what has ended; ids stay taken for as long.
    #[serde(with = "duration_text")]
    pub retention: Duration,
    /// The queue that all hosts of this installation share, and no other program.
    pub task_queue: String,
    /// Certificates, in PEM, of the authority that signed the server's, where the system does not know it.
    pub ca_file: Option<PathBuf>,
    /// This host's own certificate, in PEM.
    pub client_cert_file: Option<PathBuf>,
    /// Its key, in PEM.
    pub client_key_file: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the address's.
    pub server_name: Option<String>,
    /// A file with an API key of Temporal Cloud's.
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
