//! What seals nodes' keys.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::time::duration_text;
use host_vault::{Connection, check_name};
use serde::{Deserialize, Serialize};
use url::Url;

use host_domain::setting::SettingError;

mod backup;

pub use backup::{BackupConfig, BackupPlace, S3Config};
pub use host_vault::AppRole;

/// Nodes' keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// What wraps the data keys of nodes' keys from now on.
    pub wrapped_by: WrappedBy,
    /// A vault. It is asked for what it wrapped also while something else wraps.
    pub vault: Option<VaultConfig>,
    /// Where copies of sealed keys are kept; nowhere when absent.
    pub backup: Option<BackupConfig>,
}

/// What can wrap data keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrappedBy {
    /// `master-keys` in the state folder.
    #[default]
    Local,
    /// The vault.
    Vault,
}

/// The Transit engine of a HashiCorp Vault or an OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `https://vault.internal:8200`; `http://` on this machine only.
    pub address: Url,
    /// Where the engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// The engine's key; it must exist.
    #[serde(default = "bellwether")]
    pub key: String,
    /// The vault's namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Certificates, in PEM, that the vault's must lead to; the system's when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with a token. It is read again when the vault refuses the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// A login by AppRole instead.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// For one call; it is tried three times while the vault is away.
    #[serde(default = "five_seconds", with = "duration_text")]
    pub timeout: Duration,
}

fn transit() -> String {
    "transit".to_owned()
}

fn bellwether() -> String {
    "bellwether".to_owned()
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

impl KeysConfig {
    /// Checks the rules that join several keys of the section.
    pub fn check(&self) -> Result<(), SettingError> {
        check(self)
    }
}

fn check(keys: &KeysConfig) -> Result<(), SettingError> {
    if let Some(backup) = &keys.backup {
        backup::check(backup)?;
    }
    let Some(vault) = &keys.vault else {
        let missing = "is missing, and `keys.wrapped_by` is `vault`; say where the vault is";
        return match keys.wrapped_by {
            WrappedBy::Local => Ok(()),
            WrappedBy::Vault => Err(wrong("keys.vault", missing)),
        };
    };
    vault.connection().check()?;
    for (key, name) in [("mount", &vault.mount), ("key", &vault.key)] {
        check_name(&format!("keys.vault.{key}"), name)?;
    }
    Ok(())
}

impl VaultConfig {
    pub(crate) fn connection(&self) -> Connection {
        Connection {
            section: "keys.vault",
            address: self.address.clone(),
            namespace: self.namespace.clone(),
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
            approle: self.approle.clone(),
            timeout: self.timeout,
        }
    }
}

pub(super) fn wrong(key: &str, message: &str) -> SettingError {
    SettingError::new(key, message)
}
