//! `/api/v1/plugins`: which components are in use, how they do, and reading the configuration again.

use axum::Json;
use axum::extract::State;
use host_domain::revision::Revision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{Admin, Allowed, NodesRead};
use super::page::PageView;
use super::problem::Problem;
use super::wire::{self, PluginKind, RevisionState};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_plugins))
        .routes(routes!(reload_plugins))
}

/// Lists plugins with their newest revisions.
#[utoipa::path(get, path = "/plugins", tag = "plugins",
    responses((status = OK, description = "Every plugin", body = PageView<PluginView>)))]
async fn list_plugins(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
) -> Result<Json<PageView<PluginView>>, Problem> {
    let plugins = app.list_plugins().await?;
    Ok(Json(PageView::whole(
        plugins.into_iter().map(Into::into).collect(),
    )))
}

/// Reads the configuration again. What is wrong with it is answered, and changes nothing.
#[utoipa::path(post, path = "/plugins/reload", tag = "plugins",
    responses((status = OK, description = "Every plugin as it is now", body = PageView<PluginView>)))]
async fn reload_plugins(
    State(app): State<App>,
    who: Allowed<Admin>,
) -> Result<Json<PageView<PluginView>>, Problem> {
    let plugins = app.reload(&who.0).await?;
    Ok(Json(PageView::whole(
        plugins.into_iter().map(Into::into).collect(),
    )))
}

/// A plugin, its revisions and how the active one does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Plugin)]
pub struct PluginView {
    /// The chain that declares it, or `notifications`.
    pub scope: String,
    /// Its name there.
    pub plugin: String,
    /// The revision in use.
    pub active: Option<RevisionView>,
    /// Up to ten revisions, newest first.
    pub revisions: Vec<RevisionView>,
    /// Calls since the process loaded it.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Mean time of a call.
    pub mean_ms: f64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether it is kept from being called because it failed too often.
    pub is_open: bool,
}

impl From<crate::ops::PluginView> for PluginView {
    fn from(plugin: crate::ops::PluginView) -> Self {
        Self {
            scope: plugin.scope,
            plugin: plugin.plugin,
            active: plugin.active.map(Into::into),
            revisions: plugin.revisions.into_iter().map(Into::into).collect(),
            calls: plugin.stats.calls,
            failures: plugin.stats.failures,
            mean_ms: plugin.stats.mean_ms,
            last_error: plugin.stats.last_error,
            is_open: plugin.stats.is_open,
        }
    }
}

/// A revision: one component with one configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Revision)]
pub struct RevisionView {
    /// UUID v7.
    pub id: Uuid,
    /// Rises by one for each revision of the plugin.
    pub generation: i64,
    /// What it does; unknown until it was described.
    pub kind: Option<PluginKind>,
    /// Digest of the component.
    pub digest: String,
    /// The version that the component says it has.
    pub version: Option<String>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it was rejected or broke.
    pub reason: Option<String>,
    /// When it was staged.
    pub created_at: Timestamp,
    /// When it came into use.
    pub activated_at: Option<Timestamp>,
}

impl From<Revision> for RevisionView {
    fn from(revision: Revision) -> Self {
        Self {
            id: revision.id.0,
            generation: revision.generation,
            kind: revision.kind.map(Into::into),
            digest: revision.digest,
            version: revision.description.map(|description| description.version),
            state: revision.state.into(),
            reason: revision.reason,
            created_at: wire::time(revision.created_at),
            activated_at: revision.activated_at.map(wire::time),
        }
    }
}
