//! Runs the collectors that the host assigns to this agent.
//!
//! The agent stores the assignments on disk, so it collects from its start and while it is disconnected. It loads a new
//! revision of a plugin next to the old one, which collects until the new one can.

mod convert;
mod load;
mod run;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use host_runtime::{
    CompileMode, FactSource, KvStore, MachineFacts, PluginHost, RuntimeConfig, SecretSource,
    Services,
};
use host_secrets::PluginSecrets;
use prost::Message as _;
use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::AgentError;
use crate::kv::FileKv;
use crate::layout::Layout;
use crate::outbox::observations::Observations;
use crate::tasks::Tasks;
use crate::time::SystemClock;
use crate::{durable, facts};

use convert::{Target, target};
use load::{SlotParts, Slots};

/// The number of collectors that run in parallel.
const CALLS_MAX: u32 = 32;

/// The collectors of this agent.
pub(crate) struct Collectors {
    path: PathBuf,
    assignments: Mutex<pb::Assignments>,
    running: Mutex<BTreeMap<Key, CollectorTask>>,
    slots: Slots,
    observations: Arc<Observations>,
    facts: Arc<dyn FactSource>,
    kv: Arc<FileKv>,
    secrets: Arc<PluginSecrets>,
    tasks: Tasks,
}

/// A node and the name of one of its collectors.
type Key = (String, String);

/// One running collector.
struct CollectorTask {
    target: watch::Sender<Target>,
    stop: CancellationToken,
}

/// The dependencies of collectors.
pub(crate) struct CollectorParts {
    pub(crate) observations: Arc<Observations>,
    /// For reports. A full queue drops them.
    pub(crate) lossy: mpsc::Sender<Out>,
    pub(crate) gateway: watch::Receiver<Option<Channel>>,
    pub(crate) compile: Option<CompileMode>,
    pub(crate) secrets: Arc<PluginSecrets>,
    pub(crate) tasks: Tasks,
}

impl Collectors {
    /// Starts the plugin host and reads the stored assignments.
    pub(crate) fn open(layout: &Layout, parts: CollectorParts) -> Result<Arc<Self>, AgentError> {
        let state = |source| AgentError::State {
            path: layout.components(),
            source,
        };
        let CollectorParts {
            observations,
            lossy,
            gateway,
            compile,
            secrets,
            tasks,
        } = parts;
        let compile = compile
            .map_or_else(CompileMode::this_binary, Ok)
            .map_err(state)?;
        let runtime = RuntimeConfig {
            calls_max: CALLS_MAX,
            ..RuntimeConfig::new(layout.compiled(), compile)
        };
        let kv = Arc::new(FileKv::new(layout.clone()));
        let services = Services {
            clock: Arc::new(SystemClock),
            secrets: Arc::clone(&secrets) as Arc<dyn SecretSource>,
            kv: Arc::clone(&kv) as Arc<dyn KvStore>,
        };
        let host = PluginHost::new(runtime, services).map_err(AgentError::Runtime)?;
        let assignments = read(&layout.assignments()).map_err(state)?;
        Ok(Arc::new(Self {
            path: layout.assignments(),
            assignments: Mutex::new(assignments),
            running: Mutex::default(),
            slots: Slots::new(SlotParts {
                host,
                folder: layout.components(),
                gateway,
                lossy,
                secrets: Arc::clone(&secrets),
                tasks: tasks.clone(),
            }),
            observations,
            facts: Arc::new(FactReader {
                folder: layout.nodes(),
            }),
            kv,
            secrets,
            tasks,
        }))
    }

    /// Starts the collectors of the stored assignments.
    pub(crate) fn resume(&self) {
        let assignments = self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.apply(&assignments);
    }

    /// Replaces the assignments.
    pub(crate) fn assign(&self, assignments: pb::Assignments) {
        tracing::info!(
            generation = assignments.generation,
            nodes = assignments.nodes.len(),
            "the host assigned collectors"
        );
        if let Err(error) = durable::write(&self.path, &assignments.encode_to_vec()) {
            tracing::warn!(%error, "the agent can't write its assignments, which a restart would lose; check the disk");
        }
        self.apply(&assignments);
        self.look_after_state(&assignments);
        *self
            .assignments
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = assignments;
        self.slots.report();
    }

    /// Reads secrets again, because the host may have been told to reload, and looks for state of plugins that went.
    fn look_after_state(&self, assignments: &pb::Assignments) {
        let (secrets, kv) = (Arc::clone(&self.secrets), Arc::clone(&self.kv));
        let used = assignments.nodes.iter().map(|node| {
            let plugins = node.collectors.iter().map(|used| used.plugin.clone());
            (node.node_id.clone(), plugins.collect())
        });
        let used = used.collect();
        self.tasks.spawn_until_stop(async move {
            secrets.refresh().await;
            kv.forget_unused(used).await;
        });
    }

    fn apply(&self, assignments: &pb::Assignments) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut targets = BTreeMap::new();
        for node in &assignments.nodes {
            for collector in &node.collectors {
                targets.insert(
                    (node.node_id.clone(), collector.name.clone()),
                    target(node, collector),
                );
            }
        }
        running.retain(|key, one| {
            let is_assigned = targets.contains_key(key);
            if !is_assigned {
                one.stop.cancel();
            }
            is_assigned
        });
        for (key, target) in targets {
            match running.get(&key) {
                Some(one) => {
                    one.target.send_if_modified(|old| {
                        let is_new = *old != target;
                        *old = target;
                        is_new
                    });
                }
                None => {
                    running.insert(key.clone(), self.start(key, target));
                }
            }
        }
    }

    fn start(&self, key: Key, target: Target) -> CollectorTask {
        let stop = self.tasks.stop.child_token();
        let (sender, targets) = watch::channel(target);
        let collector = run::Collector {
            key,
            targets,
            slots: self.slots.clone(),
            observations: Arc::clone(&self.observations),
            facts: Arc::clone(&self.facts),
        };
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            let _ = stopped.run_until_cancelled(collector.run()).await;
        });
        CollectorTask {
            target: sender,
            stop,
        }
    }
}

fn read(path: &Path) -> io::Result<pb::Assignments> {
    let bytes = durable::read(path)?;
    // The host sends its assignments again in the next session, so a damaged file costs little.
    Ok(bytes
        .and_then(|bytes| pb::Assignments::decode(bytes.as_slice()).ok())
        .unwrap_or_default())
}

/// The facts of the machine, for plugins.
struct FactReader {
    folder: PathBuf,
}

impl FactSource for FactReader {
    fn read(&self) -> Result<MachineFacts, String> {
        let load = facts::machine_load(&self.folder);
        Ok(MachineFacts {
            cpus: facts::cpus(),
            load1: load.load1,
            memory_used_bytes: load.memory_used_bytes,
            memory_total_bytes: load.memory_total_bytes,
            disk_used_bytes: load.disk_used_bytes,
            disk_total_bytes: load.disk_total_bytes,
        })
    }
}
