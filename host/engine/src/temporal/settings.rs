//! The options of the Temporal engine, and the errors of its start.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// The options of the Temporal engine.
#[derive(Clone)]
pub struct TemporalOptions {
    /// The frontend's URL, such as `http://127.0.0.1:7233`; `https` for TLS.
    pub url: Url,
    /// The namespace that all hosts of one installation share.
    pub namespace: String,
    /// Whether a missing namespace is created.
    pub create_namespace: bool,
    /// How long a created namespace keeps ended workflows, and so how long their ids stay reserved.
    pub retention: Duration,
    /// The task queue that all hosts of one installation share, and no other program.
    pub task_queue: String,
    /// The TLS options; by default the system's certificate authorities and the name in the URL.
    pub tls: TlsOptions,
    /// An API key of Temporal Cloud.
    pub api_key: Option<SecretString>,
    /// The maximum of activities that run at once in this host.
    pub worker_concurrency: usize,
    /// How often this host sends a heartbeat for a running activity; the answer carries cancels.
    pub heartbeat_every: Duration,
    /// How long a host may send no heartbeat before Temporal assigns the activity to another host.
    pub heartbeat_limit: Duration,
    /// How long a host may take for one turn of a workflow before Temporal assigns it to another host.
    pub turn_limit: Duration,
}

/// TLS options, each in PEM.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// The certificate authority that signed the server's certificate.
    pub ca: Option<Vec<u8>>,
    /// The client certificate and its key.
    pub client: Option<(Vec<u8>, SecretString)>,
    /// The name in the server's certificate, when it differs from the name in the URL.
    pub server_name: Option<String>,
}

impl TemporalOptions {
    /// The default options for a Temporal at this URL.
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
    /// No server answers, or it is not a Temporal.
    #[error(
        "Temporal does not answer at {url}; check `workflows.temporal.url`, the TLS settings, and that Temporal runs"
    )]
    Away {
        /// Its URL.
        url: Url,
        /// The error of the connection.
        #[source]
        source: anyhow::Error,
    },
    /// The certificates do not match.
    #[error("TLS to Temporal at {url} fails: {why}; check `workflows.temporal.{setting}`")]
    Tls {
        /// Its URL.
        url: Url,
        /// The setting to check.
        setting: &'static str,
        /// Our explanation.
        why: &'static str,
        /// The error of the connection.
        #[source]
        source: anyhow::Error,
    },
    /// The namespace is missing and the settings do not allow to create it.
    #[error(
        "Temporal at {url} has no namespace `{namespace}`; create it with `temporal operator namespace create --namespace {namespace} --retention 30d`, set `workflows.temporal.create_namespace: true`, or correct `workflows.temporal.namespace`"
    )]
    NoNamespace {
        /// Temporal's URL.
        url: Url,
        /// The namespace.
        namespace: String,
    },
    /// The namespace could not be checked or created.
    #[error(
        "the host can't use the namespace `{namespace}`; check `workflows.temporal.namespace` and the permissions of the API key"
    )]
    Namespace {
        /// The namespace.
        namespace: String,
        /// Temporal's error.
        #[source]
        source: anyhow::Error,
    },
    /// The worker could not start.
    #[error("the Temporal worker of this host can't start")]
    Worker(#[source] anyhow::Error),
    /// A workflow calls an activity that this host does not implement.
    #[error("the workflow `{kind}` calls `{activity}`, which no activity of this host implements")]
    MissingActivity {
        /// The workflow.
        kind: String,
        /// The activity.
        activity: String,
    },
}
