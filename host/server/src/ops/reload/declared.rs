//! The plugins that a configuration folder declares, each with all its uses.

use std::collections::BTreeMap;

use host_domain::config::ChainSet;
use host_domain::config::profile::PluginUse;
use host_domain::plugin::PluginKind;
use serde_json::{Map, Value, json};

use crate::catalogue::NOTIFICATIONS;

/// One use of a plugin: what is loaded is a component with one configuration.
pub(super) struct DeclaredPlugin<'a> {
    pub(super) scope: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: PluginKind,
    pub(super) plugin: &'a PluginUse,
    /// `with` blocks by the name of the use.
    pub(super) uses: BTreeMap<&'a str, &'a Map<String, Value>>,
    /// The settings around the `with` blocks, for the revision.
    pub(super) settings: Value,
}

/// Every plugin that something uses, with all its uses.
pub(super) fn declared_plugins(chains: &ChainSet) -> Vec<DeclaredPlugin<'_>> {
    let mut all = Vec::new();
    for (scope, chain) in &chains.chains {
        for (name, kind, plugin) in chain.plugin_uses() {
            let observation = &chain.observation;
            let collectors = observation
                .collectors
                .iter()
                .filter(|used| used.plugin == name);
            let policies = observation
                .policies
                .iter()
                .filter(|used| used.plugin == name);
            let settings = json!({
                "collectors": collectors.clone().collect::<Vec<_>>(),
                "policies": policies.clone().collect::<Vec<_>>(),
            });
            let uses = collectors
                .map(|used| (used.name.as_str(), &used.with))
                .chain(policies.map(|used| (used.name.as_str(), &used.with)));
            all.push(DeclaredPlugin {
                scope,
                name,
                kind,
                plugin,
                uses: uses.collect(),
                settings,
            });
        }
    }
    let notifications = &chains.notifications;
    for (name, plugin) in &notifications.plugins {
        let receivers = notifications
            .receivers
            .iter()
            .filter(|receiver| receiver.plugin == *name);
        let settings = json!({ "receivers": receivers.clone().collect::<Vec<_>>() });
        let uses = receivers
            .map(|receiver| (receiver.name.as_str(), &receiver.with))
            .collect();
        let kind = PluginKind::Notifier;
        all.push(DeclaredPlugin {
            scope: NOTIFICATIONS,
            name,
            kind,
            plugin,
            uses,
            settings,
        });
    }
    all
}

/// The plugin's configuration with that of one use over it.
pub(super) fn merged(config: &Map<String, Value>, with: &Map<String, Value>) -> Map<String, Value> {
    config
        .iter()
        .chain(with)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
