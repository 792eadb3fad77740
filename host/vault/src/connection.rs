//! How a process reaches a vault and logs in.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::setting::SettingError;
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The address of a vault and a login to it, from whichever section of the settings.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The section of the settings, which errors name.
    pub section: &'static str,
    /// `https://vault.internal:8200`.
    pub address: Url,
    /// The vault's namespace.
    pub namespace: Option<String>,
    /// Certificates, in PEM, that the vault's must lead to; the system's when absent.
    pub ca_file: Option<PathBuf>,
    /// A file with a token.
    pub token_file: Option<PathBuf>,
    /// A login by AppRole instead.
    pub approle: Option<AppRole>,
    /// The time limit of one attempt of a call.
    pub timeout: Duration,
}

/// A login by AppRole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// Where it is mounted.
    #[serde(default = "approle")]
    pub mount: String,
    /// Which role; no secret.
    pub role_id: String,
    /// A file with the secret id.
    pub secret_id_file: PathBuf,
}

/// The KV engine (version 2) of a HashiCorp Vault or an OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultKvConfig {
    /// `https://vault.internal:8200`; `http://` on this machine only.
    pub address: Url,
    /// Where the engine is mounted.
    #[serde(default = "secret")]
    pub mount: String,
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
    /// The time limit of one attempt; a call is attempted three times while the vault is unavailable.
    #[serde(default = "five_seconds", with = "duration_text")]
    pub timeout: Duration,
}

fn secret() -> String {
    "secret".to_owned()
}

fn approle() -> String {
    "approle".to_owned()
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

impl VaultKvConfig {
    /// The connection of the settings section `vault`.
    pub fn connection(&self) -> Connection {
        Connection {
            section: "vault",
            address: self.address.clone(),
            namespace: self.namespace.clone(),
            ca_file: self.ca_file.clone(),
            token_file: self.token_file.clone(),
            approle: self.approle.clone(),
            timeout: self.timeout,
        }
    }

    /// Checks the rules that join several keys of the section.
    pub fn check(&self) -> Result<(), SettingError> {
        self.connection().check()?;
        check_name("vault.mount", &self.mount)
    }
}

impl Connection {
    /// Checks the rules that join several keys of the section.
    pub fn check(&self) -> Result<(), SettingError> {
        let section = self.section;
        let wrong = |key: &str, message| Err(SettingError::new(format!("{section}{key}"), message));
        if !is_private(&self.address) {
            let plain = "must begin with `https://`: tokens and secrets go there";
            return wrong(".address", plain);
        }
        if self.token_file.is_some() == self.approle.is_some() {
            return wrong("", "needs either `token_file` or `approle`");
        }
        if let Some(role) = &self.approle {
            check_name(&format!("{section}.approle.mount"), &role.mount)?;
        }
        if self.timeout.is_zero() {
            return wrong(".timeout", "must be longer than nothing");
        }
        Ok(())
    }
}

/// Checks a name that goes into the path of a call.
pub fn check_name(key: &str, name: &str) -> Result<(), SettingError> {
    if is_path(name) {
        return Ok(());
    }
    let letters = "must be letters, digits, `-`, `_`, `.` and `/`";
    Err(SettingError::new(key, letters))
}

/// Whether a text can be a part of a call's path without changing the call.
pub(crate) fn is_path(name: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    !name.is_empty() && !name.contains("..") && name.chars().all(is_letter)
}

/// Whether nobody on the way to the address can read along.
pub fn is_private(address: &Url) -> bool {
    let is_here = match address.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    address.scheme() == "https" || (address.scheme() == "http" && is_here)
}
