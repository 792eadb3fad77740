//! Values of plugin secrets: read from files, the environment or a vault, and kept in memory only.
//!
//! Host and agent each read their own settings. [`PluginSecrets::refresh`] reads every value; plugins get values through
//! [`host_runtime::SecretSource`], which hands them to HTTP headers and never to a guest. No error contains a value.

mod config;
mod read;

pub use config::{SecretPlace, SecretsConfig, check};
pub use host_vault::{AppRole, VaultKvConfig};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use host_domain::plugin::Grants;
use host_domain::time::Clock;
use host_runtime::SecretSource;
use host_vault::VaultKv;
use secrecy::SecretString;

/// A plugin is granted a secret that has no value in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`grants.secrets[{index}]`: the secret `{name}` has no value: {reason}")]
pub struct MissingSecret {
    /// Its place in the list of the grants.
    pub index: usize,
    /// The secret.
    pub name: String,
    /// The setting that is missing or can't be read.
    pub reason: String,
}

/// The secrets that the settings of this process declare.
pub struct PluginSecrets {
    places: SecretsConfig,
    vault: Option<VaultKv>,
    state: Mutex<State>,
    /// Two refreshes would only read everything twice.
    refreshing: tokio::sync::Mutex<()>,
    has_gained: AtomicBool,
}

/// What the last refresh found.
#[derive(Default)]
struct State {
    values: BTreeMap<String, SecretString>,
    /// Why a value could not be read, by secret.
    unread: BTreeMap<String, String>,
}

impl PluginSecrets {
    /// Takes the settings; [`Self::refresh`] reads the values.
    pub fn new(
        places: SecretsConfig,
        vault: Option<&VaultKvConfig>,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let vault = vault.map(|config| VaultKv::new(config, clock));
        Ok(Self {
            places,
            vault: vault.transpose().context("`vault`")?,
            state: Mutex::default(),
            refreshing: tokio::sync::Mutex::new(()),
            has_gained: AtomicBool::new(false),
        })
    }

    /// Reads every value again. A value that can't be read any more stays in use until the process ends, but
    /// [`Self::missing`] reports it.
    pub async fn refresh(&self) {
        let _one_at_a_time = self.refreshing.lock().await;
        let found = read::all(&self.places, self.vault.as_ref()).await;
        let mut state = self.state();
        let before = std::mem::take(&mut state.unread);
        for (name, value) in found {
            match value {
                Ok(value) => {
                    if state.values.insert(name, value).is_none() {
                        self.has_gained.store(true, Ordering::Relaxed);
                    }
                }
                Err(reason) => {
                    // Refreshes come often; only news is worth a line.
                    if before.get(&name) != Some(&reason) {
                        tracing::warn!(secret = name, reason, "a plugin secret can't be read");
                    }
                    state.unread.insert(name, reason);
                }
            }
        }
    }

    /// Whether a secret that had no value has one since [`Self::forget_gained`]: plugins that lacked it can be loaded.
    pub fn has_gained(&self) -> bool {
        self.has_gained.load(Ordering::Relaxed)
    }

    /// Notes that plugins were loaded with the values of this moment.
    pub fn forget_gained(&self) {
        self.has_gained.store(false, Ordering::Relaxed);
    }

    /// The secrets that the last refresh could not read, each with the reason.
    pub fn unread(&self) -> BTreeMap<String, String> {
        self.state().unread.clone()
    }

    /// Why a secret has no value, naming the setting; `None` when the last refresh read one.
    pub fn missing(&self, name: &str) -> Option<String> {
        if !self.places.contains_key(name) {
            return Some(format!("`secrets.{name}` is not set"));
        }
        let state = self.state();
        match state.unread.get(name) {
            Some(reason) => Some(reason.clone()),
            None if state.values.contains_key(name) => None,
            None => Some(format!("`secrets.{name}` was not read yet")),
        }
    }

    /// Checks that every granted secret has a value.
    pub fn check(&self, grants: &Grants) -> Result<(), MissingSecret> {
        let mut names = grants.secrets.iter().enumerate();
        let missing = names.find_map(|(index, name)| {
            let reason = self.missing(name)?;
            let name = name.clone();
            Some(MissingSecret {
                index,
                name,
                reason,
            })
        });
        missing.map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SecretSource for PluginSecrets {
    fn secret(&self, name: &str) -> Option<SecretString> {
        self.state().values.get(name).cloned()
    }
}

impl fmt::Debug for PluginSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.places.keys();
        f.debug_set().entries(names).finish()
    }
}

#[cfg(test)]
mod tests;
