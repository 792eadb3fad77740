//! Keys of nodes: made here, sealed at once, and opened only for the agent that writes them (design: operations.md, Keys).
//!
//! What is in the clear lives in [`Material`], which wipes itself; nothing else in this host can hold a key.

mod generate;
mod master;

pub(crate) use generate::generate;
pub(crate) use master::{MasterKeys, SealScope};

use std::fmt;

use zeroize::Zeroizing;

/// Bytes of every key that we make.
const KEY_BYTES: usize = 32;

/// Key material in the clear: wiped when it is dropped, never shown.
pub(crate) struct Material(Zeroizing<[u8; KEY_BYTES]>);

impl Material {
    /// The bytes, for whoever writes or sends them.
    pub(crate) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Material")
    }
}

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The master key that wrapped it is not here.
    #[error(
        "the key is wrapped by the master key {0}, which is not in the file `master-keys`; restore its line"
    )]
    MasterKeyMissing(String),
    /// The sealed bytes were changed, or belong to another key.
    #[error("the sealed key does not open: it was changed, or moved here from another node")]
    Damaged,
    /// The cryptographic library refused.
    #[error("the cryptographic library refused to make a key")]
    Library,
}

impl From<aws_lc_rs::error::Unspecified> for KeyError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Library
    }
}
