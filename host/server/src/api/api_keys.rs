//! `/api/v1/admin/api-keys`: who may call this API. For admins only.

use axum::Json;
use axum::extract::State;
use host_domain::time::parse_duration;
use host_wire::values::millis;
use host_wire::{
    ApiKeyView, ApiKeysQuery, CreateApiKeyRequest, CreatedApiKeyView, PageView, PartQuery,
};
use http::{HeaderName, StatusCode, header};
use secrecy::ExposeSecret;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed};
use super::extract::{At, List, Valid};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::{Expiry, NewApiKey};

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_api_keys, create_api_key))
        .routes(routes!(revoke_api_key))
}

/// Lists API keys, newest first, without their tokens.
#[utoipa::path(get, path = "/admin/api-keys", tag = "API keys", params(ApiKeysQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<ApiKeyView>)))]
async fn list_api_keys(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    List(query, part): List<ApiKeysQuery>,
) -> Result<Json<PageView<ApiKeyView>>, Problem> {
    let now = ops.clock.now();
    let state = query.state.map(Into::into);
    let keys = ops.api_keys.list(state, &part, now).await?;
    Ok(Json(page_view(keys, |key| ApiKeyView::of(key, now))))
}

/// Creates an API key and shows its token, once.
///
/// A repeat with the same `Idempotency-Key` is a conflict: the host does not keep the token and can't show it again.
#[utoipa::path(post, path = "/admin/api-keys", tag = "API keys", request_body = CreateApiKeyRequest,
    responses((status = CREATED, description = "The key and its token; the host can't show the token again", body = CreatedApiKeyView)))]
async fn create_api_key(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    Valid(request): Valid<CreateApiKeyRequest>,
) -> Result<
    (
        StatusCode,
        [(HeaderName, &'static str); 1],
        Json<CreatedApiKeyView>,
    ),
    Problem,
> {
    let new = NewApiKey {
        expiry: expiry(&request)?,
        name: request.name,
        scopes: request.scopes,
    };
    let now = ops.clock.now();
    let created = ops.api_keys.create(&who.0, new, now).await?;
    let view = CreatedApiKeyView {
        token: created.token.expose_secret().to_owned(),
        api_key: ApiKeyView::of(created.key, now),
    };
    // Also keeps it out of the answers that are kept for repeats.
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, "no-store")],
        Json(view),
    ))
}

fn expiry(request: &CreateApiKeyRequest) -> Result<Expiry, Problem> {
    match (request.expires_at, request.expires_in.as_deref()) {
        (None, None) => Ok(Expiry::Never),
        (Some(at), None) => Ok(Expiry::At(millis(at))),
        (None, Some(text)) => parse_duration(text)
            .map(Expiry::In)
            .map_err(|error| Problem::field("/expires_in", error.to_string())),
        (Some(_), Some(_)) => Err(Problem::field(
            "/expires_in",
            "send `expires_at` or `expires_in`, not both",
        )),
    }
}

/// Revokes an API key: the host rejects its token from the next request on.
///
/// The last active key with the scope `admin` can't be revoked. A key that was revoked before stays as it is.
#[utoipa::path(post, path = "/admin/api-keys/{key}/revoke", tag = "API keys",
    params(("key" = String, Path, description = "Id of the key, or the name of an active one")),
    responses((status = NO_CONTENT, description = "The key is revoked")))]
async fn revoke_api_key(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(key): At<String>,
) -> Result<StatusCode, Problem> {
    ops.api_keys.revoke(&who.0, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
