//! Encrypts 32 bytes by AES-256-GCM, bound to the node and the name of their key.
//!
//! Key material is always encrypted this way, whatever wraps its data key, so that it can't be decrypted after a move
//! to another row.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use host_domain::ids::NodeId;
use zeroize::{Zeroize, Zeroizing};

use super::{KEY_BYTES, KeyError};

/// A plaintext data key, which encrypts one key.
pub(super) type DataKey = Zeroizing<[u8; KEY_BYTES]>;

/// The key that encrypted bytes belong to; they can't be decrypted for another one.
pub struct SealScope<'a> {
    /// The node.
    pub node_id: NodeId,
    /// The key's name.
    pub name: &'a str,
}

impl SealScope<'_> {
    fn aad(&self) -> Aad<Vec<u8>> {
        Aad::from(format!("bellwether node key {} {}", self.node_id, self.name).into_bytes())
    }
}

/// Encrypts with a random nonce, which precedes the ciphertext.
pub(super) fn encrypt(
    key: &[u8; KEY_BYTES],
    scope: &SealScope<'_>,
    clear: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key)?;
    // Reserves space for the tag: growing would leave a copy of the plaintext in memory.
    let mut sealed = Vec::with_capacity(clear.len() + AES_256_GCM.tag_len());
    sealed.extend_from_slice(clear);
    let nonce = key.seal_in_place_append_tag(scope.aad(), &mut sealed)?;
    let mut out = nonce.as_ref().to_vec();
    out.append(&mut sealed);
    Ok(out)
}

/// Decrypts what [`encrypt`] encrypted for the same scope.
pub(super) fn decrypt(
    key: &[u8; KEY_BYTES],
    scope: &SealScope<'_>,
    sealed: &[u8],
) -> Result<DataKey, KeyError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key)?;
    let (nonce, ciphertext) = sealed
        .split_at_checked(NONCE_LEN)
        .ok_or(KeyError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| KeyError::Damaged)?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let clear = key
        .open_in_place(nonce, scope.aad(), &mut buffer)
        .map_err(|_| KeyError::Damaged)?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    if clear.len() != KEY_BYTES {
        return Err(KeyError::Damaged);
    }
    bytes.copy_from_slice(clear);
    clear.zeroize();
    Ok(bytes)
}
