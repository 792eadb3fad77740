//! `/api/v1/plugins`: which components are in use, how they do, and reading the configuration again.

use axum::Json;
use axum::extract::State;
use host_wire::{PageView, PluginView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed, NodesRead};
use super::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_plugins))
        .routes(routes!(reload_plugins))
}

/// Lists plugins with their newest revisions.
#[utoipa::path(get, path = "/plugins", tag = "plugins",
    responses((status = OK, description = "Every plugin", body = PageView<PluginView>)))]
async fn list_plugins(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
) -> Result<Json<PageView<PluginView>>, Problem> {
    let plugins = ops.plugins.list().await?;
    Ok(Json(PageView::whole(
        plugins.into_iter().map(plugin_view).collect(),
    )))
}

/// Reads the configuration again. What is wrong with it is answered, and changes nothing.
#[utoipa::path(post, path = "/plugins/reload", tag = "plugins",
    responses((status = OK, description = "Every plugin as it is now", body = PageView<PluginView>)))]
async fn reload_plugins(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
) -> Result<Json<PageView<PluginView>>, Problem> {
    let plugins = ops.plugins.reload(&who.0).await?;
    Ok(Json(PageView::whole(
        plugins.into_iter().map(plugin_view).collect(),
    )))
}

fn plugin_view(plugin: crate::ops::PluginView) -> PluginView {
    PluginView {
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
