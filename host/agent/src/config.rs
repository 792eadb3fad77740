//! What the agent is told at its start, and how starting can fail.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use host_runtime::{CompileMode, RuntimeError};
use secrecy::SecretString;

/// What an agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Where it keeps everything; made when it is missing.
    pub state_dir: PathBuf,
    /// Where the gateway is, such as `https://gateway.example:9090`.
    pub gateway_url: String,
    /// PEM file with the authority that signs the gateway's certificate; read for enrolment.
    pub ca_file: PathBuf,
    /// The name that people see.
    pub name: String,
    /// The one-time token; needed until the agent is enrolled.
    pub enrolment_token: Option<SecretString>,
    /// A file with the one-time token, read when there is no other.
    pub token_file: Option<PathBuf>,
    /// The time between beats when the host names none.
    pub beat_interval: Duration,
    /// Disk for observations while the agent is cut off.
    pub spool_bytes_max: u64,
    /// Disk for downloads that nodes share; what was not used for the longest time goes first.
    pub artefact_bytes_max: u64,
    /// Where components are compiled; without it a child of the running binary, which must answer
    /// [`host_runtime::COMPILE_COMMAND`].
    pub compile: Option<CompileMode>,
    /// The program that guards processes with keys; without it the running one, which must ask [`crate::answer_guard`]
    /// before anything else.
    pub guard: Option<PathBuf>,
}

impl AgentConfig {
    /// A configuration with the default numbers and without a token.
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
        }
    }
}

/// Why an agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its state can't be read or written.
    #[error(
        "the agent's state in `{path}` can't be read or written; check the path, its owner and the disk"
    )]
    State {
        /// The state folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another agent works on the folder.
    #[error("another agent works on `{0}`; stop it, or give this one a folder of its own")]
    Locked(PathBuf),
    /// The agent is not enrolled and has no token.
    #[error(
        "the agent is not enrolled; ask the host for a one-time token and give it as a token file"
    )]
    NoToken,
    /// A file that it was pointed at can't be read.
    #[error("`{path}` can't be read; check the path and its owner")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The host refused the token.
    #[error("the host refused the enrolment ({0}); ask it for a new one-time token")]
    Refused(String),
    /// The gateway's address or the certificates are of no use.
    #[error("the gateway `{url}` can't be addressed; check the URL and the CA file")]
    Gateway {
        /// The address.
        url: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// A key or a signing request can't be made.
    #[error("the agent's key can't be made")]
    Key(#[source] rcgen::Error),
    /// The plugin host does not start.
    #[error("plugins can't be run on this machine")]
    Runtime(#[source] RuntimeError),
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be set up")]
    Http(#[source] reqwest::Error),
}
