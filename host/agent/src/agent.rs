//! The agent put together: what its parts share, and its life from start to end.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::adapters::process::Supervisor;
use crate::collect::{CollectorParts, Collectors};
use crate::config::{AgentConfig, AgentError};
use crate::executor::{Executor, ExecutorParts};
use crate::identity::Identity;
use crate::layout::Layout;
use crate::node_root::NodeRoot;
use crate::outbox::events::EventLog;
use crate::outbox::observations::Observations;
use crate::tasks::Tasks;
use crate::{facts, session, time};

/// Messages that wait beside the session: progress and reports, which may be lost.
const ASIDE_MAX: usize = 256;
/// How long a former agent on the same folder may take to end.
const LOCK_MAX: Duration = Duration::from_secs(10);
/// How long a download may wait for its next bytes.
const READ_MAX: Duration = Duration::from_mins(1);

/// What the parts of an agent share.
pub(crate) struct Agent {
    pub(crate) config: AgentConfig,
    pub(crate) layout: Layout,
    pub(crate) executor: Arc<Executor>,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) events: Arc<EventLog>,
    pub(crate) observations: Arc<Observations>,
    pub(crate) collectors: Arc<Collectors>,
    /// The channel to the gateway, while a session is kept.
    pub(crate) link: watch::Sender<Option<Channel>>,
    /// What may be lost on its way to the host; held by the session.
    pub(crate) aside: Mutex<mpsc::Receiver<Out>>,
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
    // Nodes come first: they are cared for also when the host is never reached.
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
    let supervisor = Supervisor::new(Arc::clone(&events), config.guard.clone(), tasks.clone());
    let supervisor = Arc::new(supervisor);
    let (tell, aside) = mpsc::channel(ASIDE_MAX);
    let (link, gateway) = watch::channel(None);
    let http = reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(15))
        .read_timeout(READ_MAX);
    // A proxy of the machine is not for questions to the machine itself.
    let local_http = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(5));
    let parts = ExecutorParts {
        layout: layout.clone(),
        artefact_bytes_max: config.artefact_bytes_max,
        supervisor: Arc::clone(&supervisor),
        http: http.build().map_err(AgentError::Http)?,
        local_http: local_http.build().map_err(AgentError::Http)?,
        gateway: gateway.clone(),
        tell: tell.clone(),
        tasks: tasks.clone(),
    };
    let executor = Arc::new(Executor::open(parts).map_err(state)?);
    let parts = CollectorParts {
        observations: Arc::clone(&observations),
        tell,
        gateway,
        compile: config.compile.clone(),
        tasks: tasks.clone(),
    };
    let collectors = Collectors::open(&layout, parts)?;
    let aside = Mutex::new(aside);
    Ok(Agent {
        config,
        layout,
        executor,
        supervisor,
        events,
        observations,
        collectors,
        link,
        aside,
        tasks,
    })
}

impl Agent {
    fn resume(&self) -> std::io::Result<()> {
        for id in self.nodes()? {
            if let Some(root) = NodeRoot::open(&self.layout, id)?
                && let Err(error) = self.supervisor.resume(&root)
            {
                tracing::error!(node.id = %id, %error, "the node's processes can't be read; look at its folder");
            }
        }
        self.executor.resume();
        self.collectors.resume();
        Ok(())
    }

    /// What the host is told regularly.
    pub(crate) fn beat(&self, sequence: u64) -> pb::Beat {
        let mut statuses: BTreeMap<_, _> = self.supervisor.statuses();
        // A node without processes is one of this agent's all the same.
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
            // Other names are folders on their way out.
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

/// Two agents on one folder would start everything twice.
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
