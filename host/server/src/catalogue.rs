//! The catalogue: the chain configurations and the plugins of one moment, switched as a whole.
//!
//! Longer work (an evaluation tick, a request) takes the catalogue once and keeps it to the end, so that no result mixes two
//! versions. A reload builds the next catalogue beside the active one and either switches or changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use host_domain::config::ChainSet;
use host_domain::config::observation::{CollectorUse, PolicyUse};
use host_domain::health::Column;
use host_domain::notification::{Route, Silence};
use host_domain::plugin::{Grants, Limits};
use host_runtime::Plugin;

use crate::guard::{Guard, Trouble};

/// Scope of the plugins that notification files declare.
pub(crate) const NOTIFICATIONS: &str = "notifications";

/// Statistics of a plugin since this process loaded it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PluginStats {
    /// Calls.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Mean time of a call, in milliseconds.
    pub mean_ms: f64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether the breaker keeps calls away.
    pub is_open: bool,
}

/// The active catalogue of this process and the files of its components. Cheap to clone.
#[derive(Clone, Default)]
pub struct Chains {
    active: Arc<ArcSwap<Catalogue>>,
    /// The path of each component of the active catalogue, by digest.
    components: Arc<ArcSwap<BTreeMap<String, PathBuf>>>,
}

impl Chains {
    /// The active catalogue. Work that must not see a mix of two catalogues calls this once.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        self.active.load_full()
    }

    /// Switches to the next catalogue.
    pub(crate) fn switch(&self, next: Catalogue) {
        self.active.store(Arc::new(next));
    }

    /// Sets the paths of the components by their digests.
    pub(crate) fn set_components(&self, components: BTreeMap<String, PathBuf>) {
        self.components.store(Arc::new(components));
    }

    /// The path of a component that a collector uses; agents fetch no other.
    pub(crate) fn collector_component(&self, digest: &str) -> Option<PathBuf> {
        let is_used = self.catalogue().is_collector_digest(digest);
        is_used
            .then(|| self.components.load().get(digest).cloned())
            .flatten()
    }
}

/// Chain configurations and plugins that belong together.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// Content digest of the folder.
    pub(crate) version: String,
    /// Chains and notifications as they were written.
    pub(crate) chains: ChainSet,
    /// Policies by chain.
    pub(crate) policies: BTreeMap<String, Vec<ActivePolicy>>,
    /// Collectors by chain.
    pub(crate) collectors: BTreeMap<String, Vec<ActiveCollector>>,
    /// Receivers by name.
    pub(crate) receivers: BTreeMap<String, ActiveReceiver>,
    /// Where incidents go.
    pub(crate) routes: Vec<Route>,
    /// What is silenced.
    pub(crate) silences: Vec<Silence>,
}

/// A policy at work. Without a plugin it can't judge, for the reason given.
pub(crate) struct ActivePolicy {
    pub(crate) settings: PolicyUse,
    pub(crate) plugin: Result<Plugin, String>,
    /// The columns of its sheet, in order.
    pub(crate) columns: Vec<Column>,
    pub(crate) guard: Guard,
}

/// A collector at work on agents.
pub(crate) struct ActiveCollector {
    pub(crate) settings: CollectorUse,
    pub(crate) digest: String,
    /// The plugin's configuration with that of this use over it.
    pub(crate) config: serde_json::Value,
    pub(crate) grants: Grants,
    pub(crate) limits: Limits,
    /// Why this host could not load it; no agent will either.
    pub(crate) broken: Option<String>,
}

/// A receiver at work. Without a plugin nothing can be delivered, for the reason given.
pub(crate) struct ActiveReceiver {
    pub(crate) plugin_name: String,
    pub(crate) plugin: Result<Plugin, String>,
    pub(crate) guard: Guard,
}

impl Catalogue {
    /// Statistics of the active revision of a plugin in this process, over all its uses.
    pub(crate) fn stats_of(&self, scope: &str, plugin: &str) -> PluginStats {
        let policies = self.policies.get(scope).into_iter().flatten();
        let policies = policies
            .filter(|policy| policy.settings.plugin == plugin)
            .filter_map(|policy| Some((policy.plugin.as_ref().ok()?, &policy.guard)));
        let receivers = self
            .receivers
            .values()
            .filter(|receiver| scope == NOTIFICATIONS && receiver.plugin_name == plugin)
            .filter_map(|receiver| Some((receiver.plugin.as_ref().ok()?, &receiver.guard)));
        policies
            .chain(receivers)
            .fold(PluginStats::default(), |sum, (plugin, guard)| {
                let is_open = sum.is_open || guard.is_open();
                PluginStats {
                    is_open,
                    ..add(sum, &plugin.stats())
                }
            })
    }

    /// What is wrong with a notifier, in any of its receivers.
    pub(crate) fn notifier_trouble(&self, plugin: &str) -> Option<Trouble> {
        let receivers = self.receivers.values();
        receivers
            .filter(|receiver| receiver.plugin_name == plugin)
            .find_map(|receiver| match &receiver.plugin {
                Ok(_) => receiver.guard.trouble(),
                Err(reason) => Some(Trouble::broken(reason)),
            })
    }

    /// Whether an agent may fetch a component: only those that some collector uses.
    pub(crate) fn is_collector_digest(&self, digest: &str) -> bool {
        self.collectors
            .values()
            .flatten()
            .any(|collector| collector.digest == digest)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a mean of counts far below 2^53"
)]
fn add(sum: PluginStats, stats: &host_runtime::PluginStats) -> PluginStats {
    let calls = sum.calls + stats.calls;
    let total_ms = sum.mean_ms * sum.calls as f64 + stats.total_time.as_secs_f64() * 1_000.0;
    PluginStats {
        calls,
        failures: sum.failures + stats.failures,
        mean_ms: if calls == 0 {
            0.0
        } else {
            total_ms / calls as f64
        },
        last_error: stats.last_error.clone().or(sum.last_error),
        is_open: sum.is_open,
    }
}
