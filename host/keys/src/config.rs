//! The `keys` section of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use host_domain::setting::SettingError;

mod backup;

pub use backup::{BackupConfig, BackupPlace, S3Config};

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

/// Credentials for a login by AppRole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Path at which the AppRole method is mounted.
    #[serde(default = "approle")]
    pub mount: String,
    /// Id of the role; not a secret.
    #[schemars(example = &"bellwether")]
    pub role_id: String,
    /// File with the secret id.
    #[schemars(example = "/etc/bellwether/vault-secret-id")]
    pub secret_id_file: PathBuf,
}

fn transit() -> String {
    "transit".to_owned()
}

fn bellwether() -> String {
    "bellwether".to_owned()
}

fn approle() -> String {
    "approle".to_owned()
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
    if !is_private(&vault.address) {
        let plain = "must begin with `https://`: tokens and data keys go there";
        return Err(wrong("keys.vault.address", plain));
    }
    if vault.token_file.is_some() == vault.approle.is_some() {
        let which = "needs either `token_file` or `approle`";
        return Err(wrong("keys.vault", which));
    }
    let names = [("mount", &vault.mount), ("key", &vault.key)];
    let role = vault
        .approle
        .iter()
        .map(|role| ("approle.mount", &role.mount));
    for (key, name) in names.into_iter().chain(role) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if name.is_empty() || name.contains("..") || !name.chars().all(is_name) {
            let letters = "must be letters, digits, `-`, `_`, `.` and `/`";
            return Err(wrong(&format!("keys.vault.{key}"), letters));
        }
    }
    if vault.timeout.is_zero() {
        return Err(wrong("keys.vault.timeout", "must be longer than nothing"));
    }
    Ok(())
}

/// Whether nobody on the way can read along.
pub(super) fn is_private(address: &Url) -> bool {
    let is_here = match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    address.scheme() == "https" || (address.scheme() == "http" && is_here)
}

pub(super) fn wrong(key: &str, message: &str) -> SettingError {
    SettingError::new(key, message)
}
