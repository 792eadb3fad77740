//! The life of a revision in the database: staged, validated, ready, active; or rejected, or broken.

use std::collections::BTreeMap;

use host_domain::ids::RevisionId;
use host_domain::revision::{Revision, RevisionState, RevisionTerms};
use uuid::Uuid;

use super::declared::DeclaredPlugin;
use super::{Prepared, Reload, ReloadError};
use crate::catalogue::NOTIFICATIONS;
use crate::ops::{LiveData, REVISIONS_KEPT, RevisionMoved};
use host_store::NewLogEntry;

impl Reload {
    pub(super) async fn stage(
        &self,
        declared: &DeclaredPlugin<'_>,
        digest: &str,
        terms: RevisionTerms,
    ) -> Result<Revision, ReloadError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        let revision = Revision {
            id: RevisionId(Uuid::now_v7()),
            scope: declared.scope.to_owned(),
            plugin: declared.name.to_owned(),
            kind: Some(declared.kind),
            generation: tx.next_generation(declared.scope, declared.name).await?,
            digest: digest.to_owned(),
            terms,
            description: None,
            state: RevisionState::Staged,
            reason: None,
            created_at: now,
            activated_at: None,
        };
        tx.insert_revision(&revision).await?;
        tx.commit().await?;
        Ok(revision)
    }

    /// A new revision is rejected; one that was in use before is broken.
    pub(super) async fn refuse(
        &self,
        revision: &mut Revision,
        reason: &str,
        tolerate_broken: bool,
    ) -> Result<(), ReloadError> {
        let state = match revision.state {
            RevisionState::Staged => RevisionState::Rejected,
            RevisionState::Active if tolerate_broken => RevisionState::Broken,
            _ => return Ok(()),
        };
        self.move_revision(revision, state, Some(reason)).await
    }

    pub(super) async fn move_revision(
        &self,
        revision: &mut Revision,
        to: RevisionState,
        reason: Option<&str>,
    ) -> Result<(), ReloadError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        tx.set_revision_state(revision.id, revision.state, to, reason)
            .await?;
        if let Some(description) = &revision.description {
            tx.set_revision_description(revision.id, description)
                .await?;
        }
        revision.state = to;
        revision.reason = reason.map(str::to_owned);
        if to != RevisionState::Validated {
            tx.append_event_log(revision_event(revision, now));
        }
        tx.commit().await?;
        Ok(())
    }

    /// Moves every active pointer in one transaction.
    pub(super) async fn activate(
        &self,
        prepared: &BTreeMap<(String, String), Prepared>,
    ) -> Result<(), ReloadError> {
        let now = self.records.now();
        let mut tx = self.records.db.begin().await?;
        for plugin in prepared.values().filter(|plugin| plugin.is_new) {
            if plugin.revision.state != RevisionState::Ready {
                continue;
            }
            tx.activate_revision(plugin.revision.id, now).await?;
            let (scope, name) = (&plugin.revision.scope, &plugin.revision.plugin);
            tx.prune_revisions(scope, name, REVISIONS_KEPT).await?;
            let active = Revision {
                state: RevisionState::Active,
                ..plugin.revision.clone()
            };
            tx.append_event_log(revision_event(&active, now));
        }
        tx.commit().await?;
        Ok(())
    }
}

fn revision_event(revision: &Revision, now: host_domain::time::Millis) -> NewLogEntry {
    let moved = RevisionMoved {
        scope: revision.scope.clone(),
        plugin: revision.plugin.clone(),
        generation: revision.generation,
        digest: revision.digest.clone(),
        state: revision.state,
        reason: revision.reason.clone(),
    };
    let chain = (revision.scope != NOTIFICATIONS).then(|| revision.scope.clone());
    LiveData::Plugin(moved).entry(None, chain, now)
}
