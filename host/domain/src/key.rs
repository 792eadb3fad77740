//! Keys of nodes: what they are and how they are stored. Key material never appears here in plain text.
//!
//! Each key is encrypted by its own data key, and a master key wraps the data key: replacing the master key re-wraps
//! a few bytes and never touches the material.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{KeyId, NodeId};
use crate::time::Millis;

/// The HPKE suite (RFC 9180) that encrypts an exported key, as named in API answers.
pub const EXPORT_SUITE: &str = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM";
/// HPKE's `info` of an exported key.
pub const EXPORT_INFO: &str = "bellwether key export 1";

/// HPKE's `aad` of an exported key, `<node id>/<name>`: an export that is mistaken for another key does not open.
pub fn export_aad(node_id: NodeId, name: &str) -> String {
    format!("{node_id}/{name}")
}

/// The algorithm of a key; each key is 32 secret bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum KeyAlgorithm {
    /// Seed of an Ed25519 key (RFC 8032, section 5.1.5).
    Ed25519,
    /// Private scalar on secp256k1 (SEC 2, section 2.4.1), big-endian.
    Secp256k1,
    /// Private key of X25519 (RFC 7748, section 5).
    X25519,
    /// Any 32 bytes, such as the token of an engine API; it has no public part.
    Bytes32,
}

impl KeyAlgorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ed25519, Self::Secp256k1, Self::X25519, Self::Bytes32];

    /// The name in YAML, in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::Secp256k1 => "secp256k1",
            Self::X25519 => "x25519",
            Self::Bytes32 => "bytes32",
        }
    }
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is not an algorithm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key algorithm")]
pub struct UnknownAlgorithm(String);

impl FromStr for KeyAlgorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// Key material that only the master key can decrypt.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Which master key wrapped the data key.
    pub master_key: String,
    /// The data key, wrapped: nonce, ciphertext and tag.
    pub data_key: Vec<u8>,
    /// The material, encrypted by the data key: nonce, ciphertext and tag.
    pub material: Vec<u8>,
}

/// A log needs no ciphertext.
impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey")
            .field("master_key", &self.master_key)
            .finish_non_exhaustive()
    }
}

/// A key of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKey {
    /// Its id.
    pub id: KeyId,
    /// The node that it belongs to.
    pub node_id: NodeId,
    /// Its name in the chain's profile.
    pub name: String,
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// The public part; empty for algorithms without one.
    pub public_key: Vec<u8>,
    /// The secret part.
    pub sealed: SealedKey,
    /// When it was created.
    pub created_at: Millis,
    /// When it will be deleted, because its node is gone.
    pub delete_after: Option<Millis>,
    /// The location of a verified backup of the key as it is wrapped now; absent without a backup.
    pub backup: Option<String>,
    /// Rises with each change.
    pub version: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_is_known_by_its_name() {
        for algorithm in KeyAlgorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
            let json = serde_json::to_value(algorithm).unwrap();
            assert_eq!(json, algorithm.as_str());
        }
        assert!("rsa".parse::<KeyAlgorithm>().is_err());
    }

    #[test]
    fn no_ciphertext_is_shown() {
        let sealed = SealedKey {
            master_key: "m1".to_owned(),
            data_key: vec![1],
            material: vec![2],
        };
        assert_eq!(
            format!("{sealed:?}"),
            "SealedKey { master_key: \"m1\", .. }"
        );
    }
}
