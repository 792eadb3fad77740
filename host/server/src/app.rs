//! The composition root: what the parts of a host share, and the tasks that live as long as it does.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use host_domain::time::Clock;
use host_runtime::PluginHost;
use host_workflows::Engine;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::gateway::Sessions;
use crate::ops::{CollectorWatch, LiveEvents, ToldOfPlugins};
use crate::store::Db;

/// A running host, as its parts see it. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) db: Db,
    pub(crate) plugins: PluginHost,
    pub(crate) sessions: Sessions,
    pub(crate) events: LiveEvents,
    /// Key of the hashes of API keys.
    pub(crate) pepper: hmac::Key,
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
    catalogue: ArcSwap<Catalogue>,
    engine: OnceLock<Arc<dyn Engine>>,
    tasks: TaskTracker,
}

/// What the caller of [`App::new`] opened before.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) db: Db,
    pub(crate) plugins: PluginHost,
    pub(crate) pepper: hmac::Key,
    pub(crate) worker: String,
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    pub(crate) fn new(opened: Opened) -> Self {
        Self(Arc::new(Parts {
            config: opened.config,
            clock: opened.clock,
            db: opened.db,
            plugins: opened.plugins,
            pepper: opened.pepper,
            worker: opened.worker,
            sessions: Sessions::default(),
            events: LiveEvents::default(),
            shutdown: CancellationToken::new(),
            components: ArcSwap::default(),
            reloading: Mutex::new(()),
            told: ToldOfPlugins::default(),
            collectors: CollectorWatch::default(),
            catalogue: ArcSwap::default(),
            engine: OnceLock::new(),
            tasks: TaskTracker::new(),
        }))
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

    pub(crate) fn engine(&self) -> &dyn Engine {
        let engine = self.engine.get();
        // A host sets its engine before it serves or runs any task; only then can anybody come here.
        &**engine.expect("the engine is set before anything is served")
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
