//! A loaded plugin: linked once, and called in a new store each time.

use std::sync::Arc;

use host_domain::plugin::{Description, PluginKind};
use wasmtime::component::InstancePre;

use crate::bindings::collector::CollectorPre;
use crate::bindings::notifier::NotifierPre;
use crate::bindings::policy::HealthPolicyPre;
use crate::call::Caller;
use crate::error::CallError;
use crate::load::Digest;
use crate::state::HostState;
use crate::stats::PluginStats;

/// A loaded plugin. Cheap to clone; running calls keep it alive, so that a reload does not interrupt them.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    caller: Caller,
    linked: Linked,
    description: Description,
    config: String,
}

/// The component, linked against the world of its kind.
pub(crate) enum Linked {
    Collector(CollectorPre<HostState>),
    HealthPolicy(HealthPolicyPre<HostState>),
    Notifier(NotifierPre<HostState>),
}

impl Linked {
    /// Fails when an export of the world is missing or has another signature.
    pub(crate) fn new(kind: PluginKind, linked: InstancePre<HostState>) -> wasmtime::Result<Self> {
        Ok(match kind {
            PluginKind::Collector => Self::Collector(CollectorPre::new(linked)?),
            PluginKind::HealthPolicy => Self::HealthPolicy(HealthPolicyPre::new(linked)?),
            PluginKind::Notifier => Self::Notifier(NotifierPre::new(linked)?),
        })
    }
}

impl Plugin {
    pub(crate) fn new(
        caller: Caller,
        linked: Linked,
        description: Description,
        config: String,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                caller,
                linked,
                description,
                config,
            }),
        }
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.inner.caller.shared.name
    }

    /// Its kind.
    pub fn kind(&self) -> PluginKind {
        self.inner.caller.shared.kind
    }

    /// The digest of its component.
    pub fn digest(&self) -> Digest {
        self.inner.caller.shared.digest
    }

    /// Its own description.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// The statistics of its calls since it was loaded.
    pub fn stats(&self) -> PluginStats {
        self.inner.caller.shared.stats.read()
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.inner.caller
    }

    pub(crate) fn config(&self) -> &str {
        &self.inner.config
    }

    pub(crate) fn collector(&self) -> Result<&CollectorPre<HostState>, CallError> {
        match &self.inner.linked {
            Linked::Collector(linked) => Ok(linked),
            Linked::HealthPolicy(_) | Linked::Notifier(_) => Err(self.wrong_kind("collect")),
        }
    }

    pub(crate) fn health_policy(&self) -> Result<&HealthPolicyPre<HostState>, CallError> {
        match &self.inner.linked {
            Linked::HealthPolicy(linked) => Ok(linked),
            Linked::Collector(_) | Linked::Notifier(_) => Err(self.wrong_kind("evaluate")),
        }
    }

    pub(crate) fn notifier(&self) -> Result<&NotifierPre<HostState>, CallError> {
        match &self.inner.linked {
            Linked::Notifier(linked) => Ok(linked),
            Linked::Collector(_) | Linked::HealthPolicy(_) => Err(self.wrong_kind("deliver")),
        }
    }

    fn wrong_kind(&self, function: &'static str) -> CallError {
        CallError::NoSuchFunction {
            kind: self.kind(),
            function,
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("kind", &self.kind())
            .field("digest", &self.digest().short())
            .finish_non_exhaustive()
    }
}
