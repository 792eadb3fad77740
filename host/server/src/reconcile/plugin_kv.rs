//! Deletes the state of plugins that are no longer configured, after `retention.plugin_state`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::loops::{Loop, Pace};
use crate::ops::{Chains, OpError, Records};
use crate::services::Services;

/// Plugins that are considered in one round.
const PLUGINS_MAX: u32 = 1_000;

/// Deletes the state of removed plugins, on the leader.
pub(super) fn plugin_state(services: &Services) -> Loop {
    let (chains, retention) = (
        services.chains.clone(),
        services.config.retention.plugin_state,
    );
    let pace = Pace::Every(Duration::from_mins(5));
    Loop::leader("plugin state", pace, move |records| {
        let chains = chains.clone();
        async move { round(&records, &chains, retention).await }
    })
}

/// One round.
async fn round(records: &Records, chains: &Chains, retention: Duration) -> Result<(), OpError> {
    let keeping = records.db.plugins_with_kv(PLUGINS_MAX).await?;
    if keeping.is_empty() {
        return Ok(());
    }
    let catalogue = chains.catalogue();
    let of_chains = catalogue.chains.chains.values();
    let configured: BTreeSet<&String> = of_chains
        .flat_map(|chain| chain.profile.plugins.keys())
        .chain(catalogue.chains.notifications.plugins.keys())
        .collect();
    let now = records.now();
    let mut tx = records.db.begin().await?;
    for plugin in &keeping {
        if configured.contains(plugin) {
            tx.keep_plugin_kv(plugin).await?;
        } else {
            tx.retire_plugin_kv(plugin, now.plus(retention)).await?;
        }
    }
    let n_deleted = tx.prune_plugin_kv(now).await?;
    tx.commit().await?;
    if n_deleted > 0 {
        tracing::info!(keys = n_deleted, "the state of removed plugins was deleted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use host_domain::config::profile::PluginUse;
    use host_store::PluginKvScope;
    use serde_json::json;

    use super::*;
    use crate::catalogue::Catalogue;
    use crate::test_bed::Bed;

    const SCOPE: PluginKvScope<'static> = PluginKvScope {
        plugin: "webhook",
        node: "",
    };

    async fn is_kept(bed: &Bed) -> bool {
        let retention = bed.services.config.retention.plugin_state;
        let pruned = round(&bed.records, &bed.services.chains, retention).await;
        pruned.unwrap();
        let kept = bed.records.db.plugin_kv(SCOPE, "k").await;
        kept.unwrap().is_some()
    }

    /// Lets the folder declare the plugin, or not.
    fn configure(bed: &Bed, is_configured: bool) {
        let mut catalogue = Catalogue::default();
        if is_configured {
            let used: PluginUse =
                serde_json::from_value(json!({ "component": "components/webhook.wasm" })).unwrap();
            let plugins = &mut catalogue.chains.notifications.plugins;
            plugins.insert(SCOPE.plugin.to_owned(), used);
        }
        bed.services.chains.switch(catalogue);
    }

    #[tokio::test]
    async fn state_of_a_plugin_that_is_not_configured_is_deleted_after_its_time() {
        let bed = Bed::new().await;
        let month = i64::try_from(bed.services.config.retention.plugin_state.as_secs()).unwrap();
        let mut tx = bed.records.db.begin().await.unwrap();
        tx.set_plugin_kv(SCOPE, "k", b"v").await.unwrap();
        tx.commit().await.unwrap();
        configure(&bed, true);
        assert!(is_kept(&bed).await);
        bed.wait(2 * month);
        assert!(is_kept(&bed).await);
        configure(&bed, false);
        assert!(is_kept(&bed).await);
        bed.wait(month - 1);
        assert!(is_kept(&bed).await);
        // It is back before the time is over, and goes again.
        configure(&bed, true);
        assert!(is_kept(&bed).await);
        configure(&bed, false);
        bed.wait(month);
        assert!(is_kept(&bed).await);
        bed.wait(month);
        assert!(!is_kept(&bed).await);
    }
}
