//! The flag that names the settings of a host. Secrets are never arguments, which every user of the machine can read.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::Config;

/// Settings when the flag is absent.
const SETTINGS: &str = "bellwether.yaml";

/// Where the settings are.
#[derive(Args, Clone, Debug)]
pub(super) struct SettingsArgs {
    /// File with the settings; default: `bellwether.yaml` in the current directory, if it exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the file, if there is one; the environment overrides it.
    pub(super) fn read(&self) -> anyhow::Result<Config> {
        let default = Path::new(SETTINGS);
        let path = self.config.as_deref();
        let path = path.or(default.exists().then_some(default));
        Ok(Config::read(path, std::env::vars())?)
    }
}
