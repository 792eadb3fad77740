//! Chain configuration: the YAML formats, loaded and validated together.
//!
//! [`load()`] takes the text of every file and returns a [`ChainSet`] or everything that is wrong with it. It
//! performs no I/O: the caller provides the files and looks up components.
//!
//! A file passes four steps, and each reports all its findings with file, line and column: `tree` parses YAML into
//! values that know their place, `shape` validates them by the published JSON Schema of their kind, serde converts
//! them to the types of this module, and `check` checks names across files.

mod check;
mod check_chain;
mod check_notifications;
mod check_recipe;
pub mod diagnostics;
mod load;
mod names;
pub mod notifications;
pub mod observation;
pub mod profile;
pub mod recipe;
mod render;
mod render_fields;
pub mod runtime;
pub mod scalars;
mod schema_words;
pub mod schemas;
mod shape;
pub mod step;
mod template;
mod tree;
mod yaml;

use std::collections::BTreeMap;

use crate::plugin::PluginKind;

pub use load::{ConfigFile, FILE_BYTES_MAX, ValidateOptions, load, load_with_secrets};
pub use render::{RenderError, render_recipe};

use notifications::Notifications;
use observation::ObservationConfig;
use profile::{PluginUse, Profile};
use recipe::Recipe;
use runtime::Runtime;

/// Everything in a folder of chain configurations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainSet {
    /// Chains by id.
    pub chains: BTreeMap<String, ChainConfig>,
    /// Who is notified of incidents.
    pub notifications: Notifications,
}

/// One chain.
#[derive(Clone, Debug, PartialEq)]
pub struct ChainConfig {
    /// Identity, node types, plugins.
    pub profile: Profile,
    /// Ports, folders, process.
    pub runtime: Runtime,
    /// Collectors and policies.
    pub observation: ObservationConfig,
    /// Recipes by node type; each node type has one.
    pub recipes: BTreeMap<String, Recipe>,
}

impl ChainConfig {
    /// The plugins of this chain with the kind that each use requires.
    pub fn plugin_uses(&self) -> impl Iterator<Item = (&str, PluginKind, &PluginUse)> {
        self.profile.plugins.iter().filter_map(|(name, plugin)| {
            let policy = self
                .observation
                .policies
                .iter()
                .any(|used| used.plugin == *name);
            let collector = self
                .observation
                .collectors
                .iter()
                .any(|used| used.plugin == *name);
            let kind = match (collector, policy) {
                (true, _) => PluginKind::Collector,
                (false, true) => PluginKind::HealthPolicy,
                (false, false) => return None,
            };
            Some((name.as_str(), kind, plugin))
        })
    }
}

#[cfg(test)]
mod tests;
