//! Keys of nodes: made here, sealed at once, and opened only for the agent that writes them (design: operations.md, Keys).
//!
//! What is in the clear lives in [`Material`], which wipes itself; nothing else in this host can hold a key.

mod backup;
mod config;
mod envelope;
mod exchange;
mod generate;
mod kek;
mod keyring;
mod master;
mod vault;

pub use backup::{BackupError, KeyBackup};
pub use config::{
    AppRole, BackupConfig, BackupPlace, KeysConfig, S3Config, VaultConfig, WrappedBy,
};
pub use envelope::SealScope;
pub use exchange::{SealedExport, seal_to};
pub use generate::{generate, import};
pub use keyring::Keyring;

use std::fmt;

use zeroize::Zeroizing;

/// Bytes of every key that we make.
const KEY_BYTES: usize = 32;

/// Key material in the clear: wiped when it is dropped, never shown.
pub struct Material(Zeroizing<[u8; KEY_BYTES]>);

impl Material {
    /// The bytes, for whoever writes or sends them.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The bytes in a buffer that wipes itself, for the agent of the key's node.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.to_vec())
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// What wrapped it is not here.
    #[error(
        "the key is wrapped by {0}, which this host does not have; restore its line in `master-keys`, or its vault under `keys.vault`"
    )]
    KekMissing(String),
    /// The vault can't be reached or is sealed; it may answer later.
    #[error("the vault of nodes' keys is away; unseal it, or check `keys.vault.address`")]
    Away(#[source] anyhow::Error),
    /// The vault does not let this host in.
    #[error(
        "the vault of nodes' keys lets this host not in ({0}); check its policy, and what `keys.vault` names"
    )]
    Denied(String),
    /// The vault does not do it, and would not later.
    #[error(
        "the vault of nodes' keys refuses ({0}); check `keys.vault.mount` and `keys.vault.key`"
    )]
    Refused(String),
    /// The sealed bytes were changed, or belong to another key.
    #[error("the sealed key does not open: it was changed, or moved here from another node")]
    Damaged,
    /// What a person brought is no key of its algorithm, or no public key.
    #[error("it can't be used: {0}")]
    Unusable(&'static str),
    /// The cryptographic library refused.
    #[error("the cryptographic library refused to make a key")]
    Library,
}

impl KeyError {
    /// Whether the same may be done later, without any change here.
    pub fn may_heal(&self) -> bool {
        match self {
            Self::Away(_) | Self::Denied(_) => true,
            Self::KekMissing(_)
            | Self::Refused(_)
            | Self::Damaged
            | Self::Unusable(_)
            | Self::Library => false,
        }
    }
}

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Library
    }
}
