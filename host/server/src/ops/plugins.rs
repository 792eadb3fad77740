//! Plugins: their revisions, and reading the configuration folder again.

use std::collections::BTreeMap;
use std::sync::Arc;

use host_domain::ids::RevisionId;
use host_domain::revision::Revision;

use super::audit::audit;
use super::collectors::CollectorWatch;
use super::records::Records;
use super::reload::Reload;
use super::{OpError, PAGE_MAX, Principal};
use crate::catalogue::Chains;

pub use crate::catalogue::PluginStats;

/// Revisions of a plugin that are shown and kept.
pub(crate) const REVISIONS_KEPT: u32 = 10;

/// A plugin: its revisions, and the statistics of the active one.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginView {
    /// The chain that declares it, or `notifications`.
    pub scope: String,
    /// Its name there.
    pub plugin: String,
    /// The active revision, when there is one.
    pub active: Option<Revision>,
    /// Up to ten revisions, newest first.
    pub revisions: Vec<Revision>,
    /// Calls of the active revision in this process.
    pub stats: PluginStats,
}

/// Use cases on plugins.
#[derive(Clone)]
pub struct Plugins {
    records: Records,
    chains: Chains,
    collectors: Arc<CollectorWatch>,
    reload: Reload,
}

impl Plugins {
    pub(crate) fn new(
        records: Records,
        chains: Chains,
        collectors: Arc<CollectorWatch>,
        reload: Reload,
    ) -> Self {
        Self {
            records,
            chains,
            collectors,
            reload,
        }
    }

    /// Every plugin that was ever declared, with its newest revisions.
    pub async fn list(&self) -> Result<Vec<PluginView>, OpError> {
        let catalogue = self.chains.catalogue();
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
            let rows = self
                .records
                .db
                .list_revisions(None, before, PAGE_MAX)
                .await?;
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
        let now = self.records.now();
        self.reload
            .run()
            .await
            .map_err(|error| OpError::Conflict(error.to_string()))?;
        let mut tx = self.records.db.begin().await?;
        audit(&mut tx, who, "reload", "plugins".to_owned(), now).await?;
        tx.commit().await?;
        self.list().await
    }
}
