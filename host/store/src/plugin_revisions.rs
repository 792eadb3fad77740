//! Revisions of plugins; a partial unique index keeps at most one revision of a plugin active.

use host_domain::ids::RevisionId;
use host_domain::plugin::{Description, PluginKind};
use host_domain::revision::{Revision, RevisionState};
use host_domain::time::Millis;

use super::db::{Reader, Tx};
use super::error::StoreError;
use super::sql::{BadColumn, FromRow, Row, json, json_opt, sql};

impl FromRow for Revision {
    const TABLE: &'static str = "plugin_revisions";

    fn from_row(row: &Row) -> Result<Self, BadColumn> {
        Ok(Self {
            id: row.parsed("id")?,
            scope: row.text("scope")?,
            plugin: row.text("plugin")?,
            kind: row.json_opt::<PluginKind>("kind")?,
            generation: row.int("generation")?,
            digest: row.text("digest")?,
            terms: row.json("terms")?,
            description: row.json_opt::<Description>("description")?,
            state: row.named("state", RevisionState::parse)?,
            reason: row.text_opt("reason")?,
            created_at: row.millis("created_at")?,
            activated_at: row.millis_opt("activated_at")?,
        })
    }
}

impl Reader {
    /// The active revision of a plugin.
    pub async fn active_revision(
        &self,
        scope: &str,
        plugin: &str,
    ) -> Result<Option<Revision>, StoreError> {
        const SQL: &str =
            "SELECT * FROM plugin_revisions WHERE scope = $1 AND plugin = $2 AND state = 'active'";
        self.first(sql(SQL).bind(scope).bind(plugin)).await
    }

    /// Revisions of one scope or of all, newest first, before `before`.
    pub async fn list_revisions(
        &self,
        scope: Option<&str>,
        before: Option<RevisionId>,
        limit: u32,
    ) -> Result<Vec<Revision>, StoreError> {
        const SQL: &str = "SELECT * FROM plugin_revisions
            WHERE ($1 IS NULL OR scope = $1) AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3";
        self.all(sql(SQL).bind(scope).bind(before).bind(limit))
            .await
    }

    /// The generation of a plugin's next revision.
    pub async fn next_generation(&self, scope: &str, plugin: &str) -> Result<i64, StoreError> {
        const SQL: &str = "SELECT COALESCE(max(generation), 0) + 1 AS number FROM plugin_revisions
            WHERE scope = $1 AND plugin = $2";
        Ok(self
            .number(sql(SQL).bind(scope).bind(plugin))
            .await?
            .unwrap_or(1))
    }
}

impl Tx {
    /// Inserts a staged revision. `Conflict` when a concurrent call took its generation.
    pub async fn insert_revision(&mut self, revision: &Revision) -> Result<(), StoreError> {
        const SQL: &str =
            "INSERT INTO plugin_revisions (id, scope, plugin, kind, generation, digest, terms,
                description, state, reason, created_at, activated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let stmt = sql(SQL)
            .bind(revision.id)
            .bind(&revision.scope)
            .bind(&revision.plugin)
            .bind(json_opt(revision.kind.as_ref()))
            .bind(revision.generation)
            .bind(&revision.digest)
            .bind(json(&revision.terms))
            .bind(json_opt(revision.description.as_ref()))
            .bind(revision.state.as_str())
            .bind(revision.reason.as_deref())
            .bind(revision.created_at)
            .bind(revision.activated_at);
        self.execute(stmt)
            .await
            .map_err(|error| error.taken("a revision of this generation"))?;
        Ok(())
    }

    /// Changes the state of a revision that is still in the state `seen`; `false` after a concurrent change. States
    /// do not repeat except through `staged`, so the state itself is the optimistic lock.
    pub async fn set_revision_state(
        &mut self,
        id: RevisionId,
        seen: RevisionState,
        to: RevisionState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError> {
        const SQL: &str =
            "UPDATE plugin_revisions SET state = $1, reason = $2 WHERE id = $3 AND state = $4";
        let stmt = sql(SQL)
            .bind(to.as_str())
            .bind(reason)
            .bind(id)
            .bind(seen.as_str());
        let changed = self.execute(stmt).await;
        Ok(changed.map_err(|error| error.taken("an active revision of this plugin"))? == 1)
    }

    /// Stores what a revision declares about itself; `false` when the revision does not exist.
    pub async fn set_revision_description(
        &mut self,
        id: RevisionId,
        description: &Description,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "UPDATE plugin_revisions SET kind = $1, description = $2 WHERE id = $3";
        let stmt = sql(SQL)
            .bind(json(&description.kind))
            .bind(json(description))
            .bind(id);
        Ok(self.execute(stmt).await? == 1)
    }

    /// Activates a ready revision and retires the active one. `false`, with nothing changed, when it is not ready.
    pub async fn activate_revision(
        &mut self,
        id: RevisionId,
        at: Millis,
    ) -> Result<bool, StoreError> {
        const RETIRE: &str = "UPDATE plugin_revisions SET state = 'retired' WHERE state = 'active' AND id <> $1
            AND (scope, plugin) IN (SELECT scope, plugin FROM plugin_revisions WHERE id = $1 AND state = 'ready')";
        const SQL: &str = "UPDATE plugin_revisions SET state = 'active', activated_at = $1 WHERE id = $2 AND state = 'ready'";
        self.execute(sql(RETIRE).bind(id)).await?;
        let changed = self.execute(sql(SQL).bind(at).bind(id)).await;
        Ok(changed.map_err(|error| error.taken("an active revision of this plugin"))? == 1)
    }

    /// Deletes the oldest revisions of a plugin except the newest `keep` and the active one, and returns their
    /// number.
    pub async fn prune_revisions(
        &mut self,
        scope: &str,
        plugin: &str,
        keep: u32,
    ) -> Result<u64, StoreError> {
        const SQL: &str =
            "DELETE FROM plugin_revisions WHERE scope = $1 AND plugin = $2 AND state <> 'active'
            AND id NOT IN (SELECT id FROM plugin_revisions WHERE scope = $1 AND plugin = $2
                ORDER BY generation DESC LIMIT $3)";
        self.execute(sql(SQL).bind(scope).bind(plugin).bind(keep))
            .await
    }
}
