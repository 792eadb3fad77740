//! How a process reaches a vault and logs in.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::setting::SettingError;
use host_domain::time::duration_text;
use schemars::JsonSchema;
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

/// The KV engine (version 2) of a HashiCorp Vault or an OpenBao.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKvConfig {
    /// Address of the vault: `https://HOST:8200`, or `http://` on this machine only.
    #[schemars(example = "https://vault.internal:8200")]
    pub address: Url,
    /// Path at which the KV engine is mounted.
    #[serde(default = "secret")]
    pub mount: String,
    /// Namespace in the vault.
    #[serde(default)]
    pub namespace: Option<String>,
    /// File with certificates, in PEM, of the authority that signed the vault's certificate. Default: the system's authorities.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// File with a token. The process reads it again when the vault refuses the token.
    #[serde(default)]
    #[schemars(example = "/etc/bellwether/vault-token")]
    pub token_file: Option<PathBuf>,
    /// Login by AppRole, instead of a token.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// Time limit of one attempt; a call is attempted three times while the vault is unavailable.
    #[serde(default = "five_seconds", with = "duration_text")]
    #[schemars(with = "DurationText")]
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
