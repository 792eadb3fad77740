//! The plugin host of a process: engines, compiled components and the services behind the capabilities.

use std::path::PathBuf;
use std::sync::Arc;

use host_domain::time::Clock;
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::capability::kv::KvStore;
use crate::capability::secrets::SecretSource;
use crate::compile::CompileMode;
use crate::engine::Engines;
use crate::error::{PluginError, RuntimeError};
use crate::load::{self, LoadSpec};
use crate::plugin::Plugin;

/// The configuration of a plugin host.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Parent folder of the private folder for compiled components.
    pub cache_dir: PathBuf,
    /// Where components are compiled.
    pub compile: CompileMode,
    /// The maximum size of a component.
    pub component_bytes_max: u64,
    /// The maximum of concurrent calls; more calls wait, at most for as long as a call may last.
    pub calls_max: u32,
}

impl RuntimeConfig {
    /// The default configuration.
    pub fn new(cache_dir: PathBuf, compile: CompileMode) -> Self {
        Self {
            cache_dir,
            compile,
            component_bytes_max: 4 << 20,
            calls_max: 128,
        }
    }
}

/// The services behind the capabilities, which each process injects.
#[derive(Clone)]
pub struct Services {
    /// The clock that plugins see.
    pub clock: Arc<dyn Clock>,
    /// The secrets that can be granted.
    pub secrets: Arc<dyn SecretSource>,
    /// The store of plugins' state.
    pub kv: Arc<dyn KvStore>,
}

/// Loads plugins and runs their calls. Cheap to clone; dropping the last clone and plugin stops its thread.
#[derive(Clone)]
pub struct PluginHost {
    inner: Arc<Inner>,
}

/// The state that the host and its plugins share.
pub(crate) struct Inner {
    pub(crate) engines: Engines,
    pub(crate) cache: Cache,
    pub(crate) permits: Semaphore,
    pub(crate) services: Services,
    pub(crate) component_bytes_max: u64,
}

impl PluginHost {
    /// Starts the engine and opens the cache.
    pub fn new(config: RuntimeConfig, services: Services) -> Result<Self, RuntimeError> {
        let calls_max = config.calls_max.max(1);
        let engines = Engines::start(calls_max)?;
        let cache = Cache::open(&config.cache_dir, config.compile, engines.compatibility())?;
        let permits = Semaphore::new(usize::try_from(calls_max).unwrap_or(Semaphore::MAX_PERMITS));
        let component_bytes_max = config.component_bytes_max;
        Ok(Self {
            inner: Arc::new(Inner {
                engines,
                cache,
                permits,
                services,
                component_bytes_max,
            }),
        })
    }

    /// Validates, compiles, links and tries a component, which is then ready for calls.
    pub async fn load(&self, bytes: Vec<u8>, spec: LoadSpec) -> Result<Plugin, PluginError> {
        load::load(&self.inner, &bytes, spec).await
    }
}
