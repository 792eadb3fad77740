//! Plugins: their revisions, and reading the configuration folder again.

use std::collections::BTreeMap;

use host_domain::ids::RevisionId;
use host_domain::revision::Revision;

use super::audit::audit;
use super::{OpError, PAGE_MAX, PluginView, Principal};
use crate::app::App;

/// Revisions of a plugin that are shown and kept.
pub(crate) const REVISIONS_KEPT: u32 = 10;

impl App {
    /// Every plugin that was ever declared, with its newest revisions.
    pub async fn list_plugins(&self) -> Result<Vec<PluginView>, OpError> {
        let catalogue = self.catalogue();
        let mut views = Vec::new();
        for ((scope, plugin), revisions) in self.revisions_by_plugin().await? {
            let active = revisions
                .iter()
                .find(|revision| revision.state == host_domain::revision::RevisionState::Active)
                .cloned();
            let mut stats = catalogue.stats_of(&scope, &plugin);
            stats.is_open |= self.collectors.is_open(&scope, &plugin);
            views.push(PluginView {
                scope,
                plugin,
                active,
                revisions,
                stats,
            });
        }
        Ok(views)
    }

    /// The newest revisions of each plugin, newest first.
    async fn revisions_by_plugin(
        &self,
    ) -> Result<BTreeMap<(String, String), Vec<Revision>>, OpError> {
        let mut found: BTreeMap<(String, String), Vec<Revision>> = BTreeMap::new();
        let mut before: Option<RevisionId> = None;
        loop {
            let rows = self.db.list_revisions(None, before, PAGE_MAX).await?;
            let Some(last) = rows.last() else {
                return Ok(found);
            };
            before = Some(last.id);
            for row in rows {
                found
                    .entry((row.scope.clone(), row.plugin.clone()))
                    .or_default()
                    .push(row);
            }
        }
    }

    /// Reads the configuration folder again; what is wrong with it comes back and changes nothing.
    pub async fn reload(&self, who: &Principal) -> Result<Vec<PluginView>, OpError> {
        let now = self.clock.now();
        self.reload_catalogue()
            .await
            .map_err(|error| OpError::Conflict(error.to_string()))?;
        let mut tx = self.db.begin().await?;
        audit(&mut tx, who, "reload", "plugins".to_owned(), now).await?;
        tx.commit().await?;
        self.list_plugins().await
    }
}
