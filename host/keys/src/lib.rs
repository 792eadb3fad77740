//! Keys of nodes: generated here, encrypted at once, and decrypted only for the agent that writes them.
//!
//! Entry points: [`Keyring`] encrypts and decrypts, [`generate()`] and [`import`] create keys, [`seal_to`] exports
//! them, and [`KeyBackup`] stores backups.
//!
//! Invariant: plaintext key material exists only in [`Material`], which wipes itself; nothing else in this host can
//! hold a key.

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

/// The size of every key.
const KEY_BYTES: usize = 32;

/// Plaintext key material: wiped when it is dropped, never shown.
pub struct Material(Zeroizing<[u8; KEY_BYTES]>);

impl Material {
    /// The bytes, for code that writes or sends them.
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

/// Why an operation on a key failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// This host lacks the KEK that wrapped the key.
    #[error(
        "the key is wrapped by {0}, which this host does not have; restore its line in `master-keys`, or configure its Vault under `keys.vault`"
    )]
    KekMissing(String),
    /// The Vault is unreachable or sealed; a retry may succeed.
    #[error("the Vault of node keys is unavailable; unseal it, or check `keys.vault.address`")]
    Away(#[source] anyhow::Error),
    /// The Vault denies this host access.
    #[error(
        "the Vault of node keys denies this host access ({0}); check the Vault policy and the login under `keys.vault`"
    )]
    Denied(String),
    /// The Vault rejects the request, also after a retry.
    #[error(
        "the Vault of node keys rejects the request ({0}); check `keys.vault.mount` and `keys.vault.key`"
    )]
    Refused(String),
    /// The encrypted bytes were changed, or belong to another key.
    #[error("the host can't decrypt the key: its data was changed, or copied from another node")]
    Damaged,
    /// A person's input is not a key of the algorithm, or not a public key.
    #[error("the key is invalid: {0}")]
    Unusable(&'static str),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed to create a key")]
    Library,
}

impl KeyError {
    /// Whether a retry may succeed without a change here.
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
