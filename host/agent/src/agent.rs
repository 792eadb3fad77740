//! Assembles the agent, and runs it from start to shutdown.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use host_secrets::PluginSecrets;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::adapters::{AdapterParts, Adapters};
use crate::collect::{CollectorParts, Collectors};
use crate::config::{AgentConfig, AgentError};
use crate::executor::{Executor, ExecutorParts};
use crate::identity::Identity;
use crate::layout::Layout;
use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::outbox::observations::Observations;
use crate::tasks::Tasks;
use crate::time::SystemClock;
use crate::{facts, session, time};

/// Progress and reports that wait for the session. A full queue drops them.
const LOSSY_MAX: usize = 256;
/// How long the previous agent process may take to release the state folder.
const LOCK_MAX: Duration = Duration::from_secs(10);
/// How long a download may stall.
const READ_MAX: Duration = Duration::from_mins(1);

/// The parts of an agent.
pub(crate) struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) layout: Layout,
    pub(crate) executor: Arc<Executor>,
    pub(crate) adapters: Arc<Adapters>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) collectors: Arc<Collectors>,
    /// The channel to the gateway, while there is a session.
    pub(crate) gateway: watch::Sender<Option<Channel>>,
    /// Messages for the host that may be lost. The session holds the lock.
    pub(crate) lossy: Mutex<mpsc::Receiver<Out>>,
    pub(crate) tasks: Tasks,
}

/// Runs an agent until `shutdown`. Nodes keep running when it returns.
///
/// The process must have installed a default TLS provider of rustls.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> Result<(), AgentError> {
    let state = |source| AgentError::State {
        path: config.state_dir.clone(),
        source,
    };
    let layout = Layout::open(&config.state_dir).map_err(state)?;
    let _lock = lock(&config, &layout).await?;
    let tasks = Tasks::new(shutdown.child_token());
    let agent = Arc::new(assemble(config.clone(), layout, tasks.clone())?);
    // Nodes come first, because they must run even if the host is unreachable.
    agent.resume().map_err(state)?;
    let identity = Identity::load_or_enrol(&agent.config, &agent.layout);
    let ended = match tasks.stop.run_until_cancelled(identity).await {
        Some(Ok(identity)) => session::keep(&agent, identity).await,
        Some(Err(error)) => Err(error),
        None => Ok(()),
    };
    tasks.end().await;
    agent.observations.spill().await;
    ended
}

fn assemble(config: AgentConfig, layout: Layout, tasks: Tasks) -> Result<Agent, AgentError> {
    let state = |source| AgentError::State {
        path: config.state_dir.clone(),
        source,
    };
    let events = Arc::new(EventLog::open(layout.events()).map_err(state)?);
    let observations = Observations::open(layout.observations(), config.spool_bytes_max);
    let observations = Arc::new(observations.map_err(state)?);
    let adapters = Arc::new(Adapters::new(&AdapterParts {
        events: Arc::clone(&events),
        guard: config.guard.clone(),
        tasks: tasks.clone(),
    }));
    let (lossy, lossy_queue) = mpsc::channel(LOSSY_MAX);
    let (gateway, gateway_channel) = watch::channel(None);
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(15))
        .read_timeout(READ_MAX);
    // Requests to the machine itself must not go through a proxy.
    let local_http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5));
    let parts = ExecutorParts {
        layout: layout.clone(),
        artefact_bytes_max: config.artefact_bytes_max,
        adapters: Arc::clone(&adapters),
        http: http.build().map_err(AgentError::Http)?,
        local_http: local_http.build().map_err(AgentError::Http)?,
        gateway: gateway_channel.clone(),
        lossy: lossy.clone(),
        tasks: tasks.clone(),
    };
    let executor = Arc::new(Executor::open(parts).map_err(state)?);
    let parts = CollectorParts {
        observations: Arc::clone(&observations),
        lossy,
        gateway: gateway_channel,
        compile: config.compile.clone(),
        secrets: Arc::new(secrets(&config)?),
        tasks: tasks.clone(),
    };
    let collectors = Collectors::open(&layout, parts)?;
    Ok(Agent {
        config,
        layout,
        executor,
        adapters,
        events,
        observations,
        collectors,
        gateway,
        lossy: Mutex::new(lossy_queue),
        tasks,
    })
}

fn secrets(config: &AgentConfig) -> Result<PluginSecrets, AgentError> {
    let (places, vault) = (config.secrets.clone(), config.vault.as_ref());
    PluginSecrets::new(places, vault, Arc::new(SystemClock)).map_err(AgentError::Secrets)
}

impl Agent {
    fn resume(&self) -> std::io::Result<()> {
        for id in self.nodes()? {
            if let Some(root) = NodeRoot::open(&self.layout, id)?
                && let Err(error) = self.adapters.resume(&root)
            {
                let error = format!("{error:#}");
                tracing::error!(node.id = %id, error, "the agent can't resume the node's processes; check the node's folder");
            }
        }
        self.executor.resume();
        self.collectors.resume();
        Ok(())
    }

    /// The agent's regular message to the host.
    pub(crate) fn beat(&self, sequence: u64) -> pb::Beat {
        let mut statuses: BTreeMap<_, _> = self.adapters.statuses();
        // A node may have no processes yet.
        for id in self.nodes().unwrap_or_default() {
            statuses.entry(id).or_default();
        }
        let node = |(id, processes): (NodeId, _)| pb::NodeStatus {
            node_id: id.to_string(),
            processes,
        };
        pb::Beat {
            at_ms: time::now().0,
            nodes: statuses.into_iter().map(node).collect(),
            load: Some(facts::machine_load(&self.layout.nodes())),
            sequence,
        }
    }

    fn nodes(&self) -> std::io::Result<Vec<NodeId>> {
        let mut nodes = Vec::new();
        for entry in std::fs::read_dir(self.layout.nodes())? {
            // Folders with other names are being removed.
            nodes.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<NodeId>().ok()),
            );
        }
        Ok(nodes)
    }
}

/// Locks the state folder, because two agents on it would start every process twice.
async fn lock(config: &AgentConfig, layout: &Layout) -> Result<std::fs::File, AgentError> {
    let state = |source| AgentError::State {
        path: config.state_dir.clone(),
        source,
    };
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .open(layout.lock())
        .map_err(state)?;
    let end = time::now().plus(LOCK_MAX);
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if time::now() < end => {
                time::sleep(Duration::from_millis(100)).await;
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(AgentError::Locked(config.state_dir.clone()));
            }
            Err(error) => return Err(state(error.into())),
        }
    }
}
