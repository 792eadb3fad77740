//! `/api/v1/nodes/{node}/keys`: which keys a node has, bringing one, taking one away sealed. Material is in no answer in the clear.
//!
//! Bringing is a `PUT` and takes no `Idempotency-Key`: the same key again is the same, and of its body not even a digest is kept.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, header};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use zeroize::Zeroizing;

use super::auth::{Allowed, KeysExport, NodesRead, NodesWrite};
use super::extract::{At, Valid};
use super::problem::Problem;
use super::wire::{self, KeyAlgorithm, KeySource};
use crate::app::App;
use crate::ops::{ExportedKey, KeyInfo};
use host_keys::SUITE;

pub(super) fn routes() -> OpenApiRouter<App> {
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

/// A key that a node's chain declares, or that the node still has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = NodeKey)]
pub struct NodeKeyView {
    /// Its name in the chain's profile.
    pub name: String,
    /// What it is.
    pub algorithm: KeyAlgorithm,
    /// Where it comes from; absent when the profile declares it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<KeySource>,
    /// Whether it may be exported.
    pub is_exportable: bool,
    /// Whether the node has it. A key that a person brings is missing until then, and the node's installation waits for it.
    pub is_present: bool,
    /// The public part, in base64; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// What wraps it: a master key of the host, or a version of a vault's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrapped_by: Option<String>,
    /// Where a sealed copy of it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// When it was made or brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// From when on it is deleted: its node is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_after: Option<Timestamp>,
}

impl From<KeyInfo> for NodeKeyView {
    fn from(info: KeyInfo) -> Self {
        let is_present = info.kept.is_some();
        let (mut public_key, mut wrapped_by, mut backup) = (None, None, None);
        let (mut created_at, mut delete_after) = (None, None);
        if let Some(kept) = info.kept {
            let has_public = !kept.public_key.is_empty();
            public_key = has_public.then(|| STANDARD.encode(&kept.public_key));
            (wrapped_by, backup) = (Some(kept.wrapped_by), kept.backup);
            created_at = Some(wire::time(kept.created_at));
            delete_after = kept.delete_after.map(wire::time);
        }
        Self {
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
}

/// Lists the keys that a node's chain declares and those that it has, by name. Chains declare few, so there is one part.
#[utoipa::path(get, path = "/nodes/{node}/keys", tag = "keys", params(NodePath),
    responses((status = OK, description = "The keys", body = Vec<NodeKeyView>)))]
async fn list_node_keys(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Json<Vec<NodeKeyView>>, Problem> {
    let node = app.find_node(&node).await?.node;
    let keys = app.list_node_keys(&node).await?;
    Ok(Json(keys.into_iter().map(Into::into).collect()))
}

/// A key that a person brings.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ImportKeyRequest {
    /// Its 32 secret bytes, in base64: the seed of Ed25519, the scalar of secp256k1 (big-endian) or of X25519, or the bytes.
    #[schema(value_type = String)]
    material: SecretString,
}

/// Brings a key that the chain declares with `source: user`. The same key again changes nothing; another one is refused.
#[utoipa::path(put, path = "/nodes/{node}/keys/{key}", tag = "keys", params(KeyPath),
    request_body = ImportKeyRequest,
    responses((status = OK, description = "The node has the key", body = NodeKeyView)))]
async fn import_node_key(
    State(app): State<App>,
    who: Allowed<NodesWrite>,
    At((node, key)): At<(String, String)>,
    Valid(brought): Valid<ImportKeyRequest>,
) -> Result<Json<NodeKeyView>, Problem> {
    let material = decoded("/material", brought.material.expose_secret())?;
    let node = app.find_node(&node).await?.node;
    let kept = app.import_node_key(&who.0, &node, &key, &material).await?;
    Ok(Json(kept.into()))
}

/// Whom an export is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportKeyRequest {
    /// An X25519 public key (32 bytes, base64) whose private half the caller holds. Make one for each export.
    pub recipient: String,
}

/// A key, sealed to one recipient by HPKE (RFC 9180, base mode).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExportedKeyView {
    /// HPKE's suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
    pub suite: String,
    /// HPKE's `info`, as text: `bellwether key export 1`.
    pub info: String,
    /// HPKE's `aad`, as text: the node's id, `/`, the key's name.
    pub aad: String,
    /// HPKE's `enc`, in base64.
    pub encapsulated_key: String,
    /// The key's 32 bytes and a tag of 16, encrypted, in base64.
    pub ciphertext: String,
    /// The key that it is.
    pub key: NodeKeyView,
}

impl From<ExportedKey> for ExportedKeyView {
    fn from(exported: ExportedKey) -> Self {
        Self {
            suite: SUITE.to_owned(),
            info: host_keys::EXPORT_INFO.to_owned(),
            aad: format!("{}/{}", exported.node_id, exported.key.name),
            encapsulated_key: STANDARD.encode(&exported.sealed.encapsulated_key),
            ciphertext: STANDARD.encode(&exported.sealed.ciphertext),
            key: exported.key.into(),
        }
    }
}

/// Takes a key away, sealed to a public key of the caller's. Each time is in the audit log and in the node's history.
#[utoipa::path(post, path = "/nodes/{node}/keys/{key}/export", tag = "keys", params(KeyPath),
    request_body = ExportKeyRequest,
    responses((status = OK, description = "The key, which only the recipient opens; not kept for repeats", body = ExportedKeyView)))]
async fn export_node_key(
    State(app): State<App>,
    who: Allowed<KeysExport>,
    At((node, key)): At<(String, String)>,
    Valid(wanted): Valid<ExportKeyRequest>,
) -> Result<([(HeaderName, &'static str); 1], Json<ExportedKeyView>), Problem> {
    let recipient = decoded("/recipient", &wanted.recipient)?;
    let node = app.find_node(&node).await?.node;
    let exported = app.export_node_key(&who.0, &node, &key, &recipient).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(exported.into())))
}

/// What can't be read is not repeated: it may be a secret.
fn decoded(pointer: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, Problem> {
    let bytes = STANDARD.decode(text.trim()).map(Zeroizing::new);
    bytes.map_err(|_| Problem::field(pointer, "is not base64 with padding"))
}
