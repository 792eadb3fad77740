//! The settings of node keys.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use host_domain::setting::SettingError;

mod backup;

pub use backup::{BackupConfig, BackupPlace, S3Config};

/// The settings of node keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// What wraps the data keys of new and rotated node keys.
    pub wrapped_by: WrappedBy,
    /// A Vault. The host also uses it to unwrap older keys while `wrapped_by` is `local`.
    pub vault: Option<VaultConfig>,
    /// The place of backups of encrypted keys; no backups when absent.
    pub backup: Option<BackupConfig>,
}

/// What can wrap data keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrappedBy {
    /// The file `master-keys` in `state_dir`.
    #[default]
    Local,
    /// The vault.
    Vault,
}

/// The Transit engine of HashiCorp Vault or OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultConfig {
    /// `https://vault.internal:8200`; `http://` on this machine only.
    pub address: Url,
    /// The mount path of the engine.
    #[serde(default = "transit")]
    pub mount: String,
    /// The name of the engine's key, which must exist.
    #[serde(default = "bellwether")]
    pub key: String,
    /// The Vault namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// PEM file with the certificate authority of the Vault; the system's authorities when absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with a token. The host reads it again when the Vault rejects the token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// An AppRole login, instead of a token.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// The time limit of one request; the host tries three times while the Vault is unavailable.
    #[serde(default = "five_seconds", with = "duration_text")]
    pub timeout: Duration,
}

/// An AppRole login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The mount path of AppRole.
    #[serde(default = "approle")]
    pub mount: String,
    /// The role id; not a secret.
    pub role_id: String,
    /// A file with the secret id.
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
    /// Validates rules that concern several keys of the section.
    pub fn check(&self) -> Result<(), SettingError> {
        check(self)
    }
}

fn check(keys: &KeysConfig) -> Result<(), SettingError> {
    if let Some(backup) = &keys.backup {
        backup::check(backup)?;
    }
    let Some(vault) = &keys.vault else {
        let missing = "is missing although `keys.wrapped_by` is `vault`; set `keys.vault.address` and a login";
        return match keys.wrapped_by {
            WrappedBy::Local => Ok(()),
            WrappedBy::Vault => Err(wrong("keys.vault", missing)),
        };
    };
    if !is_private(&vault.address) {
        let plain = "must start with `https://`, because the host sends tokens and data keys there";
        return Err(wrong("keys.vault.address", plain));
    }
    if vault.token_file.is_some() == vault.approle.is_some() {
        let which = "must have either `token_file` or `approle`";
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
        return Err(wrong("keys.vault.timeout", "must be longer than zero"));
    }
    Ok(())
}

/// Whether nobody can intercept the traffic.
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
