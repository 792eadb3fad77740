//! Reads a folder of chain configurations from disk.
//!
//! The rules are in `host_domain::config`; here is only what needs a file system: which files count, how much is read at most,
//! that no link leads out, and the digests of components. `bellwether chain validate` and the running host call the same.
//! Everything here blocks and belongs on a blocking thread.

mod folder;
mod last_good;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use host_domain::config::diagnostics::{Diagnostic, Diagnostics};
use host_domain::config::{ChainSet, ConfigFile, ValidateOptions, load_with_secrets};
use host_secrets::PluginSecrets;

use folder::Folder;
pub(crate) use last_good::LastGood;

/// A folder that is right, as it was read.
#[derive(Clone, Debug)]
pub struct ChainFolder {
    /// Where it is; component paths begin here.
    pub root: PathBuf,
    /// What it says.
    pub set: ChainSet,
    /// `sha256:…` over all that was read, components included: an equal version is an equal configuration.
    pub version: String,
    /// Digest of each component that a plugin names, by its path in the folder.
    pub components: BTreeMap<String, String>,
}

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ChainErrors {
    /// The folder itself can't be read.
    #[error("can't read the folder `{}`; name one that holds `chains/` and `recipes/`", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Files in it are wrong.
    #[error(transparent)]
    Wrong(#[from] Diagnostics),
}

/// Reads and checks a folder, whatever secrets have a value here.
pub fn load_dir(dir: &Path, options: ValidateOptions) -> Result<ChainFolder, ChainErrors> {
    load_dir_with(dir, options, None)
}

/// Reads and checks a folder; with secrets, also that those which plugins of the host are granted have a value.
pub(crate) fn load_dir_with(
    dir: &Path,
    options: ValidateOptions,
    secrets: Option<&PluginSecrets>,
) -> Result<ChainFolder, ChainErrors> {
    let unreadable = |source| ChainErrors::Folder {
        path: dir.to_owned(),
        source,
    };
    let folder = Folder::open(dir).map_err(unreadable)?;
    let (files, mut mistakes) = folder.config_files().map_err(unreadable)?;
    let components = RefCell::new(BTreeMap::new());
    let digest_of = |path: &str| {
        let mut known = components.borrow_mut();
        if !known.contains_key(path) {
            known.insert(path.to_owned(), folder.component_digest(path)?);
        }
        known.get(path).cloned()
    };
    let missing_secret = |name: &str| secrets?.missing(name);
    let loaded = load_with_secrets(&files, options, &digest_of, &missing_secret);
    if let Err(Diagnostics(found)) = &loaded {
        mistakes.extend(found.iter().cloned());
    }
    let set = loaded.unwrap_or_default();
    if mistakes.is_empty() && set.chains.is_empty() {
        let mend = "add `chains/<chain>/profile.yaml`, `runtime.yaml` and `observation.yaml`, or name another folder";
        mistakes.push(Diagnostic::of_file("chains", "there is no chain", mend));
    }
    if !mistakes.is_empty() {
        return Err(Diagnostics(mistakes).into());
    }
    let components = components.into_inner();
    let version = version(&files, &components);
    Ok(ChainFolder {
        root: folder.root().to_owned(),
        set,
        version,
        components,
    })
}

/// Checks a folder for a person: the report, and whether all is right. Without the settings of a host, `secrets` is `None`.
pub fn validate(dir: &Path, dev: bool, secrets: Option<&PluginSecrets>) -> (String, bool) {
    match load_dir_with(dir, ValidateOptions { dev }, secrets) {
        Ok(folder) => (summary(&folder, secrets.is_some()), true),
        Err(ChainErrors::Wrong(wrong)) => (wrong.to_string(), false),
        Err(error @ ChainErrors::Folder { .. }) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            (format!("{error}\n  {}", cause.unwrap_or_default()), false)
        }
    }
}

fn summary(folder: &ChainFolder, has_secrets: bool) -> String {
    let mut text = String::new();
    for (id, chain) in &folder.set.chains {
        let kinds: Vec<&str> = chain.recipes.keys().map(String::as_str).collect();
        let plugins: Vec<&str> = chain.plugin_uses().map(|(name, ..)| name).collect();
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "{id}: {} ({}); node types {}; plugins {}",
            chain.profile.display_name,
            chain.profile.network_type.as_str(),
            kinds.join(", "),
            if plugins.is_empty() {
                "none".to_owned()
            } else {
                plugins.join(", ")
            },
        );
    }
    let told = &folder.set.notifications;
    let (routes, receivers) = (told.routes.len(), told.receivers.len());
    let _ = writeln!(
        text,
        "notifications: {receivers} receivers, {routes} routes"
    );
    let plugins = told.plugins.values();
    let uses_secrets = plugins
        .clone()
        .any(|plugin| !plugin.grants.secrets.is_empty());
    if uses_secrets && !has_secrets {
        let _ = writeln!(
            text,
            "secrets: not checked; name the host's settings with `--config`"
        );
    }
    let _ = write!(text, "all is right; version {}", folder.version);
    text
}

/// Lengths go in before contents, so that no two folders look alike.
fn version(files: &[ConfigFile], components: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.path.len() as u64).to_be_bytes());
        hash.update(&file.path);
        hash.update((file.content.len() as u64).to_be_bytes());
        hash.update(&file.content);
    }
    for (path, digest) in components {
        hash.update((path.len() as u64).to_be_bytes());
        hash.update(path);
        hash.update(digest);
    }
    format!("sha256:{}", hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests;
