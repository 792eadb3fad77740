//! Reads the values. Every reason names the setting and says nothing of the value.

use std::io::Read as _;
use std::path::Path;

use host_vault::{VaultError, VaultKv};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::config::{SecretPlace, SecretsConfig, VaultField};

/// Bytes of a value; an HTTP header can't carry much more.
const VALUE_BYTES_MAX: usize = 16 * 1024;

/// A value, or why there is none.
type Value = Result<SecretString, String>;

/// Reads every value.
pub(crate) async fn all(places: &SecretsConfig, vault: Option<&VaultKv>) -> Vec<(String, Value)> {
    let mut found = Vec::with_capacity(places.len());
    // A vault that did not answer once is not called again: every call waits for its time limit.
    let mut unavailable = None;
    for (name, place) in places {
        let setting = format!("secrets.{name}");
        let value = match place {
            SecretPlace::File(path) => from_file(&setting, path).await,
            SecretPlace::Env(variable) => from_environment(&setting, variable),
            SecretPlace::Vault(field) => match (vault, &unavailable) {
                (_, Some(why)) => Err(format!("`{setting}.vault`: {why}")),
                (None, None) => Err(format!("`{setting}.vault`: the section `vault` is missing")),
                (Some(vault), None) => from_vault(&setting, vault, field, &mut unavailable).await,
            },
        };
        let value = value.and_then(|value| usable(&setting, value));
        found.push((name.clone(), value));
    }
    found
}

async fn from_file(setting: &str, path: &Path) -> Value {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_text(&owned)).await;
    let read = read.map_err(std::io::Error::other).flatten();
    read.map_err(|error| {
        let path = path.display();
        format!("`{setting}.file`: {path} can't be read ({error}); check the path and its owner")
    })
}

fn read_text(path: &Path) -> std::io::Result<SecretString> {
    // One byte more shows that the file is too long; room for all of it, so that no copy is left behind by growing.
    let mut text = Zeroizing::new(String::with_capacity(VALUE_BYTES_MAX + 2));
    let file = std::fs::File::open(path)?;
    file.take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)?;
    Ok(SecretString::from(text.trim()))
}

fn from_environment(setting: &str, variable: &str) -> Value {
    let value = std::env::var(variable).map(Zeroizing::new);
    match value {
        Ok(value) => Ok(SecretString::from(value.trim())),
        Err(std::env::VarError::NotPresent) => Err(format!(
            "`{setting}.env`: the variable `{variable}` is not set in the environment of this process"
        )),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!(
            "`{setting}.env`: the variable `{variable}` is not text"
        )),
    }
}

async fn from_vault(
    setting: &str,
    vault: &VaultKv,
    VaultField { path, field }: &VaultField,
    unavailable: &mut Option<String>,
) -> Value {
    let value = vault.field(path, field).await;
    value.map_err(|error| {
        let is_unavailable = matches!(error, VaultError::Unavailable(_));
        let why = format!("{:#}", anyhow::Error::from(error));
        if is_unavailable {
            *unavailable = Some(why.clone());
        }
        format!("`{setting}.vault`: {why}")
    })
}

/// A header carries one line.
fn usable(setting: &str, value: SecretString) -> Value {
    let text = value.expose_secret();
    if text.is_empty() {
        return Err(format!("`{setting}`: the value is empty"));
    }
    if text.len() > VALUE_BYTES_MAX {
        return Err(format!(
            "`{setting}`: the value has more than {VALUE_BYTES_MAX} bytes"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!(
            "`{setting}`: the value has several lines or control characters, which a header can't carry"
        ));
    }
    Ok(value)
}
