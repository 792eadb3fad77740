//! The `keys` section of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use host_vault::{Connection, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use host_domain::setting::SettingError;

mod backup;

pub use backup::{BackupConfig, BackupPlace, S3Config};
pub use host_vault::AppRole;

/// How the host encrypts and backs up the keys of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// What encrypts new data keys: `local` is the file `master-keys` in `state_dir`, `vault` is the service under `keys.vault`.
    pub wrapped_by: WrappedBy,
    /// The Transit engine of a HashiCorp Vault or an OpenBao. The host needs it as long as a key exists that it encrypted, even when `wrapped_by` is `local`.
    pub vault: Option<VaultConfig>,
    /// Where the host copies encrypted keys to; the host keeps no copies when absent.
    pub backup: Option<BackupConfig>,
}

/// What can wrap data keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WrappedBy {
    /// `master-keys` in the state folder.
    #[default]
    Local,
    /// The vault.
    Vault,
}

/// The Transit engine of a HashiCorp Vault or an OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// Address of the vault; `http://` is allowed for this machine only.
    #[schemars(example = "https://vault.internal:8200")]
    pub address: Url,
    /// Path at which the Transit engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// Name of the key in the Transit engine; the key must exist.
    #[serde(default = "bellwether")]
    pub key: String,
    /// Namespace in the vault.
    #[serde(default)]
    pub namespace: Option<String>,
    /// File with the CA certificates, in PEM, that verify the vault; the system's certificates when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// File with a token. The host reads the file again when the vault refuses the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Credentials for a login by AppRole, instead of `token_file`.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// Longest time for one call. The host makes three attempts while the vault is unavailable.
    #[serde(default = "five_seconds", with = "duration_text")]
    #[schemars(with = "DurationText")]
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
