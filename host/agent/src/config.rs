//! The agent's configuration, and why an agent can't run.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use host_runtime::{CompileMode, RuntimeError};
use host_secrets::{SecretsConfig, VaultKvConfig};
use secrecy::SecretString;

/// The configuration of an agent.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The folder for the agent's state and its nodes; created if missing.
    pub state_dir: PathBuf,
    /// The URL of the gateway, such as `https://gateway.example:9090`.
    pub gateway_url: String,
    /// PEM file of the certificate authority that signs the gateway's certificate; used for enrolment.
    pub ca_file: PathBuf,
    /// The agent's name in the console and the API.
    pub name: String,
    /// The one-time token; required until the agent is enrolled.
    pub enrolment_token: Option<SecretString>,
    /// A file with the one-time token; used when `enrolment_token` is `None`.
    pub token_file: Option<PathBuf>,
    /// The time between beats, unless the host sets another one.
    pub beat_interval: Duration,
    /// The disk space for observations while the agent is disconnected.
    pub spool_bytes_max: u64,
    /// The disk space for downloads that nodes share. The agent deletes the least recently used ones first.
    pub artefact_bytes_max: u64,
    /// How to compile components. `None` uses a child of the running program, which must handle
    /// [`host_runtime::COMPILE_COMMAND`].
    pub compile: Option<CompileMode>,
    /// The program that enforces the leases of processes with keys. `None` uses the running program, which must call
    /// [`crate::answer_guard`] before anything else.
    pub guard: Option<PathBuf>,
    /// Where the values of plugin secrets are, by name.
    pub secrets: SecretsConfig,
    /// The vault that holds plugin secrets.
    pub vault: Option<VaultKvConfig>,
}

impl AgentConfig {
    /// A configuration with default limits and without a token.
    pub fn new(state_dir: PathBuf, gateway_url: String, ca_file: PathBuf, name: String) -> Self {
        Self {
            state_dir,
            gateway_url,
            ca_file,
            name,
            enrolment_token: None,
            token_file: None,
            beat_interval: Duration::from_secs(15),
            spool_bytes_max: 256 * 1024 * 1024,
            artefact_bytes_max: 10 * 1024 * 1024 * 1024,
            compile: None,
            guard: None,
            secrets: SecretsConfig::new(),
            vault: None,
        }
    }
}

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The agent can't read or write its state.
    #[error(
        "the agent can't read or write its state in `{path}`; check the path, its owner and the disk"
    )]
    State {
        /// The state folder.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// Another agent uses the folder.
    #[error("another agent uses `{0}`; stop that agent, or use another state folder for this one")]
    Locked(PathBuf),
    /// The agent is not enrolled and has no token.
    #[error(
        "the agent is not enrolled and has no token; create a one-time token at the host and pass it in a token file"
    )]
    NoToken,
    /// The agent can't read a file of its configuration.
    #[error("the agent can't read `{path}`; check the path and its owner")]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The host refused the token.
    #[error("the host refused the enrolment ({0}); create a new one-time token at the host")]
    Refused(String),
    /// The gateway's URL or a certificate is invalid.
    #[error("the agent can't connect to the gateway `{url}`; check the URL and the CA file")]
    Gateway {
        /// The URL.
        url: String,
        /// The error of the transport.
        #[source]
        source: tonic::transport::Error,
    },
    /// The agent can't create a key or a signing request.
    #[error("the agent can't create its key")]
    Key(#[source] rcgen::Error),
    /// The settings of plugin secrets can't be used.
    #[error("the agent can't use its settings of plugin secrets: {0:#}")]
    Secrets(anyhow::Error),
    /// The plugin host failed to start.
    #[error("the agent can't run plugins on this machine")]
    Runtime(#[source] RuntimeError),
    /// The agent can't create an HTTP client.
    #[error("the agent can't create an HTTP client")]
    Http(#[source] reqwest::Error),
}
