//! The keyring: the KEK that wraps new data keys, and older ones that still unwrap.
//!
//! Moving from the local file to a Vault or back is an ordinary rotation: one KEK unwraps and the other wraps, and
//! the material stays untouched.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use host_domain::key::SealedKey;
use host_domain::time::Clock;
use zeroize::Zeroizing;

use super::envelope::{SealScope, decrypt, encrypt};
use super::generate::random;
use super::kek::{Kek, Wrapped};
use super::master::MasterKeys;
use super::vault::VaultTransit;
use super::{KeyError, Material};
use crate::config::{KeysConfig, WrappedBy};

/// The file with the master keys in `state_dir`.
const MASTER_KEYS: &str = "master-keys";

/// All KEKs, first the one that wraps.
pub struct Keyring(Vec<Box<dyn Kek>>);

impl Keyring {
    /// Opens the configured KEKs. Creates the local file if it wraps and is missing.
    pub fn open(
        config: &KeysConfig,
        state_dir: &Path,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let file = state_dir.join(MASTER_KEYS);
        let is_local_first = config.wrapped_by == WrappedBy::Local;
        let mut keks: Vec<Box<dyn Kek>> = Vec::new();
        if is_local_first || file.exists() {
            keks.push(Box::new(MasterKeys::open(&file)?));
        }
        if let Some(vault) = &config.vault {
            let vault = VaultTransit::new(vault, Arc::clone(clock)).context("`keys.vault`")?;
            keks.push(Box::new(vault));
        }
        if !is_local_first {
            keks.reverse();
        }
        Ok(Self(keks))
    }

    /// The id of the newest version of the wrapping KEK. Also verifies that keys can be created and opened.
    pub async fn newest(&self) -> Result<String, KeyError> {
        self.first()?.newest().await
    }

    /// Uses all KEKs, which keeps their logins alive.
    pub async fn keep_alive(&self) -> Result<(), KeyError> {
        for kek in &self.0 {
            kek.newest().await?;
        }
        Ok(())
    }

    /// Whether a KEK here has a version with that id.
    pub fn holds(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    fn first(&self) -> Result<&dyn Kek, KeyError> {
        self.0.first().map(AsRef::as_ref).ok_or(KeyError::Library)
    }

    fn find(&self, id: &str) -> Option<&dyn Kek> {
        self.0.iter().map(AsRef::as_ref).find(|kek| kek.is_own(id))
    }

    fn owner(&self, id: &str) -> Result<&dyn Kek, KeyError> {
        self.find(id)
            .ok_or_else(|| KeyError::KekMissing(id.to_owned()))
    }

    /// Encrypts the material of a node's key.
    pub async fn seal(
        &self,
        scope: &SealScope<'_>,
        material: &Material,
    ) -> Result<SealedKey, KeyError> {
        let data_key = random()?;
        let wrapped = self.first()?.wrap(scope, &data_key).await?;
        let material = encrypt(&data_key, scope, material.expose())?;
        Ok(sealed(wrapped, material))
    }

    /// Decrypts what was encrypted for that key of that node.
    pub async fn open_sealed(
        &self,
        scope: &SealScope<'_>,
        key: &SealedKey,
    ) -> Result<Material, KeyError> {
        let kek = self.owner(&key.master_key)?;
        let data_key: Zeroizing<_> = kek.unwrap(scope, &wrapped(key)).await?;
        decrypt(&data_key, scope, &key.material).map(Material)
    }

    /// The same encrypted key, rewrapped by the newest version of the wrapping KEK; the material stays untouched.
    pub async fn rewrap(
        &self,
        scope: &SealScope<'_>,
        key: &SealedKey,
    ) -> Result<SealedKey, KeyError> {
        let first = self.first()?;
        let wrapped = if first.is_own(&key.master_key) {
            first.rewrap(scope, &wrapped(key)).await?
        } else {
            let owner = self.owner(&key.master_key)?;
            let data_key = owner.unwrap(scope, &wrapped(key)).await?;
            first.wrap(scope, &data_key).await?
        };
        Ok(sealed(wrapped, key.material.clone()))
    }
}

fn sealed(wrapped: Wrapped, material: Vec<u8>) -> SealedKey {
    SealedKey {
        master_key: wrapped.kek,
        data_key: wrapped.bytes,
        material,
    }
}

fn wrapped(key: &SealedKey) -> Wrapped {
    Wrapped {
        kek: key.master_key.clone(),
        bytes: key.data_key.clone(),
    }
}

#[cfg(test)]
mod tests;
