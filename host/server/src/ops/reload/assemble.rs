//! Makes the catalogue of what was read and loaded.

use std::collections::BTreeMap;

use host_domain::config::notifications;
use host_domain::incident::Severity;
use host_domain::notification::{Matcher, Route, Silence};
use host_runtime::Plugin;
use serde_json::Value;

use super::Prepared;
use super::declared::merged;
use crate::catalogue::{ActiveCollector, ActivePolicy, ActiveReceiver, Catalogue, NOTIFICATIONS};
use crate::chains::ChainFolder;
use crate::guard::Guard;

/// Puts each loaded plugin where it is used.
pub(super) fn catalogue_of(
    folder: ChainFolder,
    mut prepared: BTreeMap<(String, String), Prepared>,
) -> Catalogue {
    let mut catalogue = Catalogue {
        version: folder.version,
        ..Catalogue::default()
    };
    let mut take = |scope: &str, plugin: &str, used: &str| {
        let key = (scope.to_owned(), plugin.to_owned());
        let loaded = prepared
            .get_mut(&key)
            .and_then(|prepared| prepared.loaded.remove(used));
        loaded.unwrap_or_else(|| Err(format!("plugin `{plugin}` is not loaded")))
    };
    for (scope, chain) in &folder.set.chains {
        let policies = chain.observation.policies.iter().map(|settings| {
            let plugin = take(scope, &settings.plugin, &settings.name);
            let columns = plugin.as_ref().map_or_else(|_| Ok(Vec::new()), columns_of);
            let (plugin, columns) = match columns {
                Ok(columns) => (plugin, columns),
                Err(reason) => (Err(reason), Vec::new()),
            };
            ActivePolicy {
                settings: settings.clone(),
                plugin,
                columns,
                guard: Guard::default(),
            }
        });
        catalogue.policies.insert(scope.clone(), policies.collect());
    }
    for receiver in &folder.set.notifications.receivers {
        let plugin = take(NOTIFICATIONS, &receiver.plugin, &receiver.name);
        let active = ActiveReceiver {
            plugin_name: receiver.plugin.clone(),
            plugin,
            guard: Guard::default(),
        };
        catalogue.receivers.insert(receiver.name.clone(), active);
    }
    for (scope, chain) in &folder.set.chains {
        let collectors = chain.observation.collectors.iter().filter_map(|settings| {
            let prepared = prepared.get(&(scope.clone(), settings.plugin.clone()))?;
            let revision = &prepared.revision;
            let loaded = prepared.loaded.get(&settings.name);
            let plugin = chain.profile.plugins.get(&settings.plugin)?;
            let mut limits = revision.terms.limits.clone();
            limits.wall = settings
                .timeout
                .map_or(limits.wall, |timeout| timeout.min(limits.wall));
            Some(ActiveCollector {
                settings: settings.clone(),
                digest: revision.digest.clone(),
                config: Value::Object(merged(&plugin.config, &settings.with)),
                grants: revision.terms.grants.clone(),
                limits,
                broken: loaded.and_then(|loaded| loaded.as_ref().err().cloned()),
            })
        });
        catalogue
            .collectors
            .insert(scope.clone(), collectors.collect());
    }
    let declared = &folder.set.notifications;
    catalogue.routes = declared.routes.iter().map(route_of).collect();
    catalogue.silences = declared.silences.iter().map(silence_of).collect();
    catalogue.chains = folder.set;
    catalogue
}

fn columns_of(plugin: &Plugin) -> Result<Vec<host_domain::health::Column>, String> {
    let reads = plugin.description().reads.iter();
    let columns: Result<Vec<_>, _> = reads.map(|column| column.parse()).collect();
    columns.map_err(|error: host_domain::health::BadColumn| error.to_string())
}

fn route_of(route: &notifications::Route) -> Route {
    Route {
        name: route.name.clone(),
        matcher: matcher_of(&route.matches),
        receiver: route.receiver.clone(),
        group_wait: route.group_wait,
        repeat_interval: route.repeat_interval,
        rate_burst: route.rate_limit.burst,
        rate_period: route.rate_limit.per,
    }
}

fn silence_of(silence: &notifications::Silence) -> Silence {
    Silence {
        matcher: matcher_of(&silence.matches),
        until: silence.until.0,
    }
}

/// An empty list in YAML accepts everything.
fn matcher_of(matches: &notifications::LabelMatch) -> Matcher {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let severities = matches.severity.iter();
    let severities = severities
        .filter_map(|name| Severity::parse(name.as_str()))
        .collect::<Vec<_>>();
    Matcher {
        chain: some(&matches.chain),
        node_type: some(&matches.node_type),
        severity: (!severities.is_empty()).then_some(severities),
        category: some(&matches.category),
    }
}
