//! `/api/v1/me`: who the key belongs to, and what it may do.

use axum::Json;
use host_wire::MeView;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::Caller;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new().routes(routes!(get_me))
}

/// Reads who the caller is.
#[utoipa::path(get, path = "/me", tag = "me",
    responses((status = OK, description = "The caller", body = MeView)))]
async fn get_me(Caller(who): Caller) -> Json<MeView> {
    let scopes = who
        .scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    Json(MeView {
        name: who.name,
        scopes,
    })
}
