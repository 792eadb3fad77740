//! HashiCorp Vault's Transit engine, or OpenBao's, as what wraps data keys: encrypt, decrypt and rewrap over HTTP.
//!
//! The key lives in the vault and has versions there; a ciphertext names the one that made it. The vault is given data keys
//! only, and knows neither nodes nor material: what binds a key to its node is the seal of the material.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_domain::time::Clock;
use host_vault::{Method, Vault, VaultError};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::envelope::{DataKey, SealScope};
use super::kek::{Kek, Wrapped};
use super::{KEY_BYTES, KeyError};
use crate::config::VaultConfig;

/// How every id of a version begins.
const SCHEME: &str = "vault:";

/// One key of one Transit engine.
pub(super) struct VaultTransit {
    vault: Vault,
    mount: String,
    key: String,
}

#[derive(Deserialize)]
struct KeyInfo {
    latest_version: u64,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Plaintext {
    plaintext: SecretString,
}

impl VaultTransit {
    /// Reads the files that the settings name; asks nobody yet.
    pub(super) fn new(config: &VaultConfig, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        Ok(Self {
            vault: Vault::new(&config.connection(), clock)?,
            mount: config.mount.clone(),
            key: config.key.clone(),
        })
    }

    async fn transit<T>(&self, verb: &str, body: &serde_json::Value) -> Result<T, KeyError>
    where
        T: for<'de> Deserialize<'de>,
    {
        let path = format!("{}/{verb}/{}", self.mount, self.key);
        Ok(self.vault.call(Method::POST, &path, Some(body)).await?)
    }

    fn id(&self, version: impl std::fmt::Display) -> String {
        format!("{SCHEME}{}/{}:v{version}", self.mount, self.key)
    }

    /// A ciphertext reads `vault:v3:BASE64`.
    fn wrapped(&self, answer: Ciphertext) -> Result<Wrapped, KeyError> {
        let version = answer.ciphertext.strip_prefix("vault:v");
        let version = version.and_then(|rest| rest.split(':').next());
        let version = version.and_then(|digits| digits.parse::<u64>().ok());
        let version = version.ok_or_else(|| {
            KeyError::Refused("it answers with a ciphertext of an unknown form".to_owned())
        })?;
        Ok(Wrapped {
            kek: self.id(version),
            bytes: answer.ciphertext.into_bytes(),
        })
    }
}

impl From<VaultError> for KeyError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Unavailable(why) => Self::Away(why),
            VaultError::Denied(why) => Self::Denied(why),
            VaultError::Refused(why) => Self::Refused(why),
        }
    }
}

#[async_trait]
impl Kek for VaultTransit {
    fn is_own(&self, id: &str) -> bool {
        let version = id.strip_prefix(&self.id(""));
        version.is_some_and(|digits| digits.parse::<u64>().is_ok())
    }

    async fn newest(&self) -> Result<String, KeyError> {
        let path = format!("{}/keys/{}", self.mount, self.key);
        let info: KeyInfo = self.vault.call(Method::GET, &path, None).await?;
        Ok(self.id(info.latest_version))
    }

    async fn wrap(&self, _: &SealScope<'_>, key: &DataKey) -> Result<Wrapped, KeyError> {
        let body = json!({ "plaintext": STANDARD.encode(**key) });
        let answer = self.transit("encrypt", &body).await?;
        self.wrapped(answer)
    }

    async fn unwrap(&self, _: &SealScope<'_>, wrapped: &Wrapped) -> Result<DataKey, KeyError> {
        let ciphertext = std::str::from_utf8(&wrapped.bytes).map_err(|_| KeyError::Damaged)?;
        let body = json!({ "ciphertext": ciphertext });
        let answer: Plaintext = self.transit("decrypt", &body).await?;
        let bytes = Zeroizing::new(
            STANDARD
                .decode(answer.plaintext.expose_secret())
                .map_err(|_| KeyError::Damaged)?,
        );
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::Damaged);
        }
        key.copy_from_slice(&bytes);
        Ok(key)
    }

    /// The data key does not leave the vault for it.
    async fn rewrap(&self, _: &SealScope<'_>, wrapped: &Wrapped) -> Result<Wrapped, KeyError> {
        let ciphertext = std::str::from_utf8(&wrapped.bytes).map_err(|_| KeyError::Damaged)?;
        let answer = self
            .transit("rewrap", &json!({ "ciphertext": ciphertext }))
            .await?;
        self.wrapped(answer)
    }
}
