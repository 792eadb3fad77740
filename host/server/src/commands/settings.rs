//! The flag that names the settings of a host. Secrets are never arguments, which every user of the machine can read.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::Config;

/// Settings when the flag is absent.
const SETTINGS: &str = "bellwether.yaml";

/// Where the settings are.
#[derive(Args, Clone, Debug)]
pub struct SettingsArgs {
    /// File with the settings; default: `bellwether.yaml` in the current directory, if it exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SettingsArgs {
    /// Reads the file, if there is one; the environment overrides it.
    pub(super) fn read(&self) -> anyhow::Result<Config> {
        Ok(Config::read(self.path(), std::env::vars())?)
    }

    /// The same for commands that also work without settings: `None` without a file.
    pub(super) fn read_file(&self) -> anyhow::Result<Option<Config>> {
        self.path().map(|_| self.read()).transpose()
    }

    fn path(&self) -> Option<&Path> {
        let default = Path::new(SETTINGS);
        let given = self.config.as_deref();
        given.or(default.exists().then_some(default))
    }
}
