//! How the engine reaches its Temporal and works for it.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// Where Temporal is, and how this host works for it.
#[derive(Clone)]
pub struct TemporalOptions {
    /// Its frontend, such as `http://127.0.0.1:7233`; `https` for TLS.
    pub url: Url,
    /// Where all hosts of one installation keep their workflows.
    pub namespace: String,
    /// Whether a missing namespace is made.
    pub create_namespace: bool,
    /// How long a made namespace keeps what has ended, and so for how long ids stay taken.
    pub retention: Duration,
    /// The queue that all hosts of one installation share, and no other program.
    pub task_queue: String,
    /// What is special about TLS; the system's authorities and the URL's name otherwise.
    pub tls: TlsOptions,
    /// A key of Temporal Cloud's.
    pub api_key: Option<SecretString>,
    /// How many activities run at once in this host.
    pub worker_concurrency: usize,
    /// How often this host says that a running activity lives; a cancel comes with the answer.
    pub heartbeat_every: Duration,
    /// How long a host may be silent about an activity before Temporal gives it to another.
    pub heartbeat_limit: Duration,
    /// How long a host may take for one turn of a workflow before Temporal gives it to another.
    pub turn_limit: Duration,
}

/// What is special about TLS, each in PEM.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// The authority that signed the server's certificate.
    pub ca: Option<Vec<u8>>,
    /// The host's own certificate and its key.
    pub client: Option<(Vec<u8>, SecretString)>,
    /// The name that the server's certificate has, when it is not the URL's.
    pub server_name: Option<String>,
}

impl TemporalOptions {
    /// The design's numbers for a Temporal at this address.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            namespace: "default".to_owned(),
            create_namespace: false,
            retention: Duration::from_hours(30 * 24),
            task_queue: "bellwether".to_owned(),
            tls: TlsOptions::default(),
            api_key: None,
            worker_concurrency: 16,
            heartbeat_every: Duration::from_secs(2),
            heartbeat_limit: Duration::from_secs(20),
            turn_limit: Duration::from_secs(10),
        }
    }
}

/// Why the engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nobody answers, or not as a Temporal does.
    #[error(
        "no Temporal answers at {url}; check `workflows.temporal.url`, its TLS settings, and that it runs"
    )]
    Away {
        /// Where.
        url: Url,
        /// What the connection says.
        #[source]
        source: anyhow::Error,
    },
    /// The certificates do not fit.
    #[error("TLS to Temporal at {url} fails: {why}; check `workflows.temporal.{setting}`")]
    Tls {
        /// Where.
        url: Url,
        /// Which key says otherwise.
        setting: &'static str,
        /// In our words.
        why: &'static str,
        /// What the connection says.
        #[source]
        source: anyhow::Error,
    },
    /// The namespace is missing and was not to be made.
    #[error(
        "Temporal at {url} has no namespace `{namespace}`; make it with `temporal operator namespace create --namespace {namespace} --retention 30d`, set `workflows.temporal.create_namespace: true`, or correct `workflows.temporal.namespace`"
    )]
    NoNamespace {
        /// Where.
        url: Url,
        /// Which.
        namespace: String,
    },
    /// The namespace could not be looked at or made.
    #[error(
        "the namespace `{namespace}` can't be used; check `workflows.temporal.namespace` and the rights of the key"
    )]
    Namespace {
        /// Which.
        namespace: String,
        /// What Temporal says.
        #[source]
        source: anyhow::Error,
    },
    /// The worker could not begin.
    #[error("this host can't work for Temporal")]
    Worker(#[source] anyhow::Error),
    /// A workflow calls something that nobody implements.
    #[error("the workflow `{kind}` calls `{activity}`, which no activity of this host implements")]
    MissingActivity {
        /// The workflow.
        kind: String,
        /// The activity.
        activity: String,
    },
}
