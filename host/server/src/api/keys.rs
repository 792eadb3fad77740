//! `/api/v1/nodes/{node}/keys`: which keys a node has, bringing one, taking one away sealed. Material is in no answer in the clear.
//!
//! Bringing is a `PUT` and takes no `Idempotency-Key`: the same key again is the same, and of its body not even a digest is kept.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_domain::key::{EXPORT_INFO, EXPORT_SUITE, export_aad};
use host_wire::values::time;
use host_wire::{ExportKeyRequest, ExportedKeyView, ImportKeyRequest, NodeKeyView};
use http::{HeaderName, header};
use secrecy::ExposeSecret;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::Ops;
use super::auth::{Allowed, KeysExport, NodesRead, NodesWrite};
use super::extract::{At, Valid};
use super::problem::Problem;
use crate::ops::{ExportedKey, KeyInfo};

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_node_keys))
        .routes(routes!(import_node_key))
        .routes(routes!(export_node_key))
}

/// Which node.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct NodePath {
    /// Id or name.
    node: String,
}

/// Which key.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct KeyPath {
    /// Id or name.
    node: String,
    /// Its name in the chain's profile.
    key: String,
}

fn key_view(info: KeyInfo) -> NodeKeyView {
    let is_present = info.kept.is_some();
    let (mut public_key, mut wrapped_by, mut backup) = (None, None, None);
    let (mut created_at, mut delete_after) = (None, None);
    if let Some(kept) = info.kept {
        let has_public = !kept.public_key.is_empty();
        public_key = has_public.then(|| STANDARD.encode(&kept.public_key));
        (wrapped_by, backup) = (Some(kept.wrapped_by), kept.backup);
        created_at = Some(time(kept.created_at));
        delete_after = kept.delete_after.map(time);
    }
    NodeKeyView {
        name: info.name,
        algorithm: info.algorithm.into(),
        source: info.source.map(Into::into),
        is_exportable: info.is_exportable,
        is_present,
        public_key,
        wrapped_by,
        backup,
        created_at,
        delete_after,
    }
}

/// Lists the keys that a node's chain declares and those that it has, by name. Chains declare few, so there is one part.
#[utoipa::path(get, path = "/nodes/{node}/keys", tag = "keys", params(NodePath),
    responses((status = OK, description = "The keys", body = Vec<NodeKeyView>)))]
async fn list_node_keys(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Json<Vec<NodeKeyView>>, Problem> {
    let node = ops.nodes.find(&node).await?;
    let keys = ops.node_keys.list(&node).await?;
    Ok(Json(keys.into_iter().map(key_view).collect()))
}

/// Brings a key that the chain declares with `source: user`. The same key again changes nothing; another one is refused.
#[utoipa::path(put, path = "/nodes/{node}/keys/{key}", tag = "keys", params(KeyPath),
    request_body = ImportKeyRequest,
    responses((status = OK, description = "The node has the key", body = NodeKeyView)))]
async fn import_node_key(
    State(ops): State<Ops>,
    who: Allowed<NodesWrite>,
    At((node, key)): At<(String, String)>,
    Valid(brought): Valid<ImportKeyRequest>,
) -> Result<Json<NodeKeyView>, Problem> {
    let material = decoded("/material", brought.material.expose_secret())?;
    let node = ops.nodes.find(&node).await?;
    let kept = ops.node_keys.import(&who.0, &node, &key, &material).await?;
    Ok(Json(key_view(kept)))
}

fn exported_key_view(exported: ExportedKey) -> ExportedKeyView {
    ExportedKeyView {
        suite: EXPORT_SUITE.to_owned(),
        info: EXPORT_INFO.to_owned(),
        aad: export_aad(exported.node_id, &exported.key.name),
        encapsulated_key: STANDARD.encode(&exported.sealed.encapsulated_key),
        ciphertext: STANDARD.encode(&exported.sealed.ciphertext),
        key: key_view(exported.key),
    }
}

/// Takes a key away, sealed to a public key of the caller's. Each time is in the audit log and in the node's history.
#[utoipa::path(post, path = "/nodes/{node}/keys/{key}/export", tag = "keys", params(KeyPath),
    request_body = ExportKeyRequest,
    responses((status = OK, description = "The key, which only the recipient opens; not kept for repeats", body = ExportedKeyView)))]
async fn export_node_key(
    State(ops): State<Ops>,
    who: Allowed<KeysExport>,
    At((node, key)): At<(String, String)>,
    Valid(wanted): Valid<ExportKeyRequest>,
) -> Result<([(HeaderName, &'static str); 1], Json<ExportedKeyView>), Problem> {
    let recipient = decoded("/recipient", &wanted.recipient)?;
    let node = ops.nodes.find(&node).await?;
    let exported = ops
        .node_keys
        .export(&who.0, &node, &key, &recipient)
        .await?;
    Ok((
        [(header::CACHE_CONTROL, "no-store")],
        Json(exported_key_view(exported)),
    ))
}

/// What can't be read is not repeated: it may be a secret.
fn decoded(pointer: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
    bytes.map_err(|_| Problem::field(pointer, "is not base64 with padding"))
}
