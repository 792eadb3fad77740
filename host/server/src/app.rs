//! The composition root: what the parts of a host share, and the tasks that live as long as it does.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use host_domain::ids::AgentId;
use host_domain::time::Clock;
use host_gateway::Sessions;
use host_runtime::PluginHost;
use host_workflows::Engine;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::ops::{CollectorWatch, LiveEvents, ToldOfPlugins};
use host_bus::{Bus, Wake};
use host_keys::{KeyBackup, Keyring};
use host_machines::MachineProviders;
use host_secrets::PluginSecrets;
use host_store::{Databases, Role};
use host_store::{Db, Fence};

/// A running host, as one of its roles sees it: the parts are shared, the database is the role's. Cheap to clone.
#[derive(Clone)]
pub struct App {
    parts: Arc<Parts>,
    /// The connections of this role.
    pub(crate) db: Db,
}

/// What an [`App`] is made of.
pub struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) plugins: PluginHost,
    /// Where machines come from.
    pub(crate) providers: MachineProviders,
    pub(crate) sessions: Sessions,
    pub(crate) events: LiveEvents,
    /// The way to the other hosts of this installation.
    pub(crate) bus: Bus,
    /// Key of the hashes of API keys.
    pub(crate) pepper: hmac::Key,
    /// What nodes' keys are sealed with.
    pub(crate) keyring: Keyring,
    /// Where copies of them are kept.
    pub(crate) key_backup: Option<KeyBackup>,
    /// The values of plugin secrets.
    pub(crate) secrets: Arc<PluginSecrets>,
    /// Names this process where rows are claimed.
    pub(crate) worker: String,
    pub(crate) shutdown: CancellationToken,
    /// Where each component of the active catalogue lies, by digest.
    pub(crate) components: ArcSwap<BTreeMap<String, PathBuf>>,
    pub(crate) reloading: Mutex<()>,
    /// What was told of plugins that broke or work again.
    pub(crate) told: ToldOfPlugins,
    /// What agents said of collectors that broke.
    pub(crate) collectors: CollectorWatch,
    /// The tenure in which this process leads the fleet; `None` while another one does.
    pub(crate) lead: watch::Sender<Option<Fence>>,
    databases: Databases,
    catalogue: ArcSwap<Catalogue>,
    engine: OnceLock<Arc<dyn Engine>>,
    tasks: TaskTracker,
}

/// What the caller of [`App::new`] opened before.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) databases: Databases,
    pub(crate) plugins: PluginHost,
    pub(crate) pepper: hmac::Key,
    pub(crate) keyring: Keyring,
    pub(crate) key_backup: Option<KeyBackup>,
    pub(crate) secrets: Arc<PluginSecrets>,
    pub(crate) worker: String,
    pub(crate) bus: Bus,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl App {
    pub(crate) fn new(opened: Opened) -> Self {
        let db = opened.databases.role(Role::Api).clone();
        let parts = Arc::new(Parts {
            providers: MachineProviders::new(
                &opened.config.machine_providers,
                &opened.config.state_dir,
            ),
            config: opened.config,
            clock: opened.clock,
            databases: opened.databases,
            plugins: opened.plugins,
            pepper: opened.pepper,
            keyring: opened.keyring,
            key_backup: opened.key_backup,
            secrets: opened.secrets,
            worker: opened.worker,
            bus: opened.bus,
            sessions: Sessions::default(),
            events: LiveEvents::default(),
            shutdown: CancellationToken::new(),
            components: ArcSwap::default(),
            reloading: Mutex::new(()),
            told: ToldOfPlugins::default(),
            collectors: CollectorWatch::default(),
            catalogue: ArcSwap::default(),
            engine: OnceLock::new(),
            lead: watch::Sender::new(None),
            tasks: TaskTracker::new(),
        });
        Self { parts, db }
    }

    /// The same host for work of another role.
    pub(crate) fn role(&self, role: Role) -> Self {
        Self {
            parts: Arc::clone(&self.parts),
            db: self.databases.role(role).clone(),
        }
    }

    /// The same host for the work of one tenure: what a later one has taken over is refused.
    pub(crate) fn led_by(&self, fence: Fence) -> Self {
        Self {
            parts: Arc::clone(&self.parts),
            db: self.db.fenced(fence),
        }
    }

    /// Ends every connection to the database.
    pub(crate) async fn close_databases(&self) {
        self.databases.close().await;
    }

    /// Chains and plugins of this moment. Take it once for work that must not see a mix of two.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    pub(crate) fn switch_catalogue(&self, next: Catalogue) {
        self.catalogue.store(Arc::new(next));
    }

    /// Gives the app its engine, whose activities needed the app first.
    pub(crate) fn set_engine(&self, engine: Arc<dyn Engine>) {
        drop(self.engine.set(engine));
    }

    /// The engine, where this host is the one that runs the workflows. Elsewhere a wish is a row, and the host that runs them
    /// finds it by itself.
    pub(crate) fn engine(&self) -> Option<&dyn Engine> {
        self.engine.get().map(|engine| &**engine)
    }

    /// Wakes the agent's session, wherever it is, because a command was queued for it.
    pub(crate) fn wake_agent(&self, agent: AgentId) {
        self.sessions.notify(agent);
        self.bus.wake(Wake::Commands { agent });
    }

    /// The number of the next assignments: it rises, also over restarts.
    pub(crate) fn next_generation(&self) -> u64 {
        u64::try_from(self.clock.now().0).unwrap_or(0)
    }

    /// Runs a task that a shutdown waits for. It has to end when `shutdown` is cancelled.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place that spawns"
    )]
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(self.tasks.track_future(task)));
    }

    /// Knows every task; parts that spawn their own give them to it.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Where a component lies that some collector uses; agents fetch no other.
    pub(crate) fn collector_component(&self, digest: &str) -> Option<PathBuf> {
        let is_used = self.catalogue().is_collector_digest(digest);
        is_used
            .then(|| self.components.load().get(digest).cloned())
            .flatten()
    }

    /// Asks every task to end.
    pub fn begin_shutdown(&self) {
        self.shutdown.cancel();
        self.tasks.close();
    }

    /// Waits for the tasks that were asked to end.
    pub(crate) async fn tasks_ended(&self) {
        self.tasks.wait().await;
    }
}
