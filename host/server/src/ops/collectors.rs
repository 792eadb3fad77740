//! Incidents of collectors that fail at agents, and their end.
//!
//! A collector runs at many nodes, and the incident of its plugin resolves only when the collector works at each of them. The
//! host remembers reports only while such an incident is open, so a healthy fleet costs nothing. After a restart of the host the
//! incident stays open until every agent has reported again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host_domain::ids::NodeId;
use host_domain::incident::{SubjectKind, category};
use host_domain::plugin::PluginKind;
use host_gateway::CollectorFailure;

use super::plugin_incidents::PluginIncidents;
use super::records::Records;
use super::{IncidentFilter, NodeFilter, OpError, PAGE_MAX, PluginRef};
use crate::catalogue::{Catalogue, Chains, NOTIFICATIONS};
use crate::guard::Trouble;

/// A node and the name of one of its collectors.
type Use = (NodeId, String);

/// The last report about one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Works,
    Broke { is_open: bool },
}

/// Reports about the collector plugins that have an open incident.
#[derive(Debug, Default)]
pub(crate) struct CollectorWatch(Mutex<BTreeMap<PluginRef, BTreeMap<Use, Known>>>);

impl CollectorWatch {
    /// Whether some agent keeps calls away from the plugin.
    pub(crate) fn is_open(&self, scope: &str, plugin: &str) -> bool {
        let watched = self.lock();
        let uses = watched.get(&PluginRef::new(scope, plugin, PluginKind::Collector));
        uses.is_some_and(|uses| {
            uses.values()
                .any(|known| *known == Known::Broke { is_open: true })
        })
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn broke(&self, plugin: &PluginRef, of: Use, is_open: bool) {
        let mut watched = self.lock();
        let uses = watched.entry(plugin.clone()).or_default();
        uses.insert(of, Known::Broke { is_open });
    }

    /// Counts only for a plugin that is watched.
    fn works(&self, plugin: &PluginRef, of: Use) {
        if let Some(uses) = self.lock().get_mut(plugin) {
            uses.insert(of, Known::Works);
        }
    }

    /// Watches these plugins and no others.
    fn watch(&self, plugins: &BTreeSet<PluginRef>) {
        let mut watched = self.lock();
        watched.retain(|plugin, _| plugins.contains(plugin));
        for plugin in plugins {
            watched.entry(plugin.clone()).or_default();
        }
    }

    /// Whether the plugin works wherever it is used; what it did elsewhere is forgotten.
    fn works_at_all(&self, plugin: &PluginRef, expected: &BTreeSet<Use>) -> bool {
        let mut watched = self.lock();
        let Some(uses) = watched.get_mut(plugin) else {
            return false;
        };
        uses.retain(|of, _| expected.contains(of));
        let n_working = uses.values().filter(|known| **known == Known::Works);
        !expected.is_empty() && n_working.count() == expected.len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginRef, BTreeMap<Use, Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Turns what agents report of their collectors into incidents. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Collectors {
    records: Records,
    chains: Chains,
    incidents: PluginIncidents,
    watch: Arc<CollectorWatch>,
}

impl Collectors {
    pub(crate) fn new(
        records: Records,
        chains: Chains,
        incidents: PluginIncidents,
        watch: Arc<CollectorWatch>,
    ) -> Self {
        Self {
            records,
            chains,
            incidents,
            watch,
        }
    }

    /// Handles a collector's failure at a node. A collector whose node does not respond works; policies judge the node.
    pub(crate) async fn failed(&self, failure: &CollectorFailure) -> Result<(), OpError> {
        if !failure.plugin_fault {
            return self.worked(failure.node_id, &failure.collector).await;
        }
        let catalogue = self.chains.catalogue();
        let plugin = self
            .collector_plugin(&catalogue, failure.node_id, &failure.collector)
            .await?;
        // A collector that was removed from the configuration needs no incident.
        let Some(plugin) = plugin else { return Ok(()) };
        let of = (failure.node_id, failure.collector.clone());
        self.watch.broke(&plugin, of, failure.is_paused);
        let trouble = Trouble {
            code: "plugin_error".to_owned(),
            error: failure.error.clone(),
            is_open: failure.is_paused,
        };
        self.incidents
            .report(&self.records, &catalogue, &plugin, Some(&trouble))
            .await
    }

    /// Handles a collector's success at a node.
    pub(crate) async fn worked(&self, node: NodeId, collector: &str) -> Result<(), OpError> {
        if self.watch.is_empty() {
            return Ok(());
        }
        let catalogue = self.chains.catalogue();
        if let Some(plugin) = self.collector_plugin(&catalogue, node, collector).await? {
            self.watch.works(&plugin, (node, collector.to_owned()));
        }
        Ok(())
    }

    /// Resolves the incidents of collectors that work again, and raises those of collectors that this host could not load.
    pub(crate) async fn check(&self) -> Result<(), OpError> {
        let catalogue = self.chains.catalogue();
        let broken = broken(&catalogue);
        for (plugin, trouble) in &broken {
            self.incidents
                .report(&self.records, &catalogue, plugin, Some(trouble))
                .await?;
        }
        let open = self.open_incidents(&catalogue).await?;
        self.watch.watch(&open);
        for plugin in open.iter().filter(|plugin| !broken.contains_key(plugin)) {
            let expected = self.uses_of(&catalogue, plugin).await?;
            if self.watch.works_at_all(plugin, &expected) {
                self.incidents
                    .report(&self.records, &catalogue, plugin, None)
                    .await?;
            }
        }
        Ok(())
    }

    /// The plugin behind a node's collector.
    async fn collector_plugin(
        &self,
        catalogue: &Catalogue,
        node: NodeId,
        collector: &str,
    ) -> Result<Option<PluginRef>, OpError> {
        let node = self.records.db.node(node).await?;
        Ok(node.and_then(|node| {
            let scope = &node.chain_profile_id;
            let mut of_chain = catalogue.collectors.get(scope)?.iter();
            let active = of_chain.find(|active| active.settings.name == collector)?;
            let plugin = &active.settings.plugin;
            Some(PluginRef::new(scope, plugin, PluginKind::Collector))
        }))
    }

    async fn open_incidents(&self, catalogue: &Catalogue) -> Result<BTreeSet<PluginRef>, OpError> {
        let filter = IncidentFilter {
            unresolved: true,
            category: Some(category::PLUGIN_ERROR.to_owned()),
            ..IncidentFilter::default()
        };
        let mut open = BTreeSet::new();
        let mut before = None;
        loop {
            let page = self
                .records
                .db
                .list_incidents(&filter, before, PAGE_MAX)
                .await?;
            let Some(last) = page.last() else {
                return Ok(open);
            };
            before = Some(last.id);
            let of_plugins = page
                .iter()
                .filter(|incident| incident.key.subject_kind == SubjectKind::Plugin)
                .filter_map(|incident| incident.key.subject_id.split_once('/'))
                .filter(|(scope, _)| *scope != NOTIFICATIONS)
                .filter(|(scope, plugin)| {
                    // What one agent can't load has an incident of its own.
                    let of_chain = catalogue.collectors.get(*scope).into_iter().flatten();
                    let mut names = of_chain.map(|active| &active.settings.plugin);
                    names.any(|name| name == plugin)
                });
            open.extend(
                of_plugins
                    .map(|(scope, plugin)| PluginRef::new(scope, plugin, PluginKind::Collector)),
            );
        }
    }

    /// Where a plugin has to work: at each node whose agent is there, in each collector that is made from it.
    async fn uses_of(
        &self,
        catalogue: &Catalogue,
        plugin: &PluginRef,
    ) -> Result<BTreeSet<Use>, OpError> {
        let names: Vec<&str> = catalogue
            .collectors
            .get(&plugin.scope)
            .into_iter()
            .flatten()
            .filter(|active| active.settings.plugin == plugin.plugin)
            .map(|active| active.settings.name.as_str())
            .collect();
        let filter = NodeFilter {
            chain: Some(plugin.scope.clone()),
            ..NodeFilter::default()
        };
        let mut uses = BTreeSet::new();
        let mut after = None;
        loop {
            let page = self.records.db.list_nodes(&filter, after, PAGE_MAX).await?;
            let Some(last) = page.last() else {
                return Ok(uses);
            };
            after = Some(last.id);
            for node in page.iter().filter(|node| node.condition.state.is_judged()) {
                uses.extend(names.iter().map(|name| (node.id, (*name).to_owned())));
            }
        }
    }
}

/// Collector plugins that this host could not load, which no agent can either.
fn broken(catalogue: &Catalogue) -> BTreeMap<PluginRef, Trouble> {
    let all = catalogue.collectors.iter();
    let all = all.flat_map(|(scope, of_chain)| of_chain.iter().map(move |one| (scope, one)));
    all.filter_map(|(scope, active)| {
        let reason = active.broken.as_ref()?;
        let plugin = PluginRef::new(scope, &active.settings.plugin, PluginKind::Collector);
        Some((plugin, Trouble::broken(reason)))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn of(node: u128) -> Use {
        (NodeId(Uuid::from_u128(node)), "evm".to_owned())
    }

    #[test]
    fn a_plugin_works_again_only_when_it_works_everywhere() {
        let plugin = PluginRef::new("a", "evm", PluginKind::Collector);
        let (watch, expected) = (CollectorWatch::default(), BTreeSet::from([of(1), of(2)]));
        watch.works(&plugin, of(1));
        assert!(watch.is_empty(), "nobody watches it");
        watch.broke(&plugin, of(1), true);
        assert!(watch.is_open("a", "evm"));
        watch.works(&plugin, of(2));
        assert!(!watch.works_at_all(&plugin, &expected));
        watch.works(&plugin, of(1));
        assert!(watch.works_at_all(&plugin, &expected));
        assert!(!watch.is_open("a", "evm"));
        assert!(!watch.works_at_all(&plugin, &BTreeSet::new()), "no word");
    }

    #[test]
    fn after_a_restart_every_use_has_to_speak_first() {
        let plugin = PluginRef::new("a", "evm", PluginKind::Collector);
        let (watch, expected) = (CollectorWatch::default(), BTreeSet::from([of(1), of(2)]));
        watch.watch(&BTreeSet::from([plugin.clone()]));
        watch.works(&plugin, of(1));
        watch.works(&plugin, of(3));
        assert!(!watch.works_at_all(&plugin, &expected));
        watch.works(&plugin, of(2));
        assert!(watch.works_at_all(&plugin, &expected));
        watch.watch(&BTreeSet::new());
        assert!(watch.is_empty());
    }
}
