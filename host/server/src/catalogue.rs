//! The catalogue: the chain configurations and the plugins of one moment, switched as a whole.
//!
//! Who works for a while (an evaluation tick, a request) takes the catalogue once and keeps it to the end, so that no answer is
//! ever a mix of two versions. A reload builds the next catalogue beside the active one and either switches or changes nothing.

use std::collections::BTreeMap;

use host_domain::config::ChainSet;
use host_domain::config::observation::{CollectorUse, PolicyUse};
use host_domain::health::Column;
use host_domain::notification::{Route, Silence};
use host_domain::plugin::{Grants, Limits};
use host_runtime::Plugin;

use crate::guard::{Guard, Trouble};
use crate::ops::PluginStats;

/// Scope of the plugins that notification files declare.
pub(crate) const NOTIFICATIONS: &str = "notifications";

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
    /// How the active revision of a plugin does in this process: all its uses together.
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
