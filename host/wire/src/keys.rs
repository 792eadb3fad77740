//! Keys of nodes in JSON: no field holds key material in the clear except the one that imports a key.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use crate::words::{KeyAlgorithm, KeySource};

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

/// A key that a person brings.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportKeyRequest {
    /// Its 32 secret bytes, in base64: the seed of Ed25519, the scalar of secp256k1 (big-endian) or of X25519, or the bytes.
    #[schema(value_type = String)]
    #[serde(serialize_with = "send_material")]
    pub material: SecretString,
}

/// The one place where a secret becomes JSON: the body of the request that imports it.
fn send_material<S: Serializer>(material: &SecretString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(material.expose_secret())
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
