//! The agent's settings file: the values of plugin secrets on this machine.

use std::io;
use std::path::{Path, PathBuf};

use host_domain::setting::SettingError;
use host_secrets::{SecretsConfig, VaultKvConfig};
use serde::{Deserialize, Serialize};

/// The settings file's name in the agent's state folder.
pub(crate) const FILE: &str = "agent.yaml";

/// Everything that can be set in the agent's settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// Where the values of plugin secrets are, by the names that grants use: `{file: …}`, `{env: …}` or `{vault: {path: …, field: …}}`.
    pub secrets: SecretsConfig,
    /// The vault that holds plugin secrets; needed only for secrets with `vault`.
    pub vault: Option<VaultKvConfig>,
}

/// Why the settings file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error("the agent can't read its settings file {path}; check the path and its owner", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The file is not YAML.
    #[error("{path} is not YAML: {message}", path = path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown or its value can't be used.
    #[error("{path}: {source}", path = path.display())]
    Setting {
        /// The file.
        path: PathBuf,
        /// The key and what is wrong.
        source: SettingError,
    },
}

impl AgentSettings {
    /// Reads the given file, or `agent.yaml` in the state folder if that exists.
    pub fn read(given: Option<&Path>, state_dir: &Path) -> Result<Self, SettingsError> {
        let default = state_dir.join(FILE);
        let path = match given {
            Some(path) => path,
            None if default.exists() => &default,
            None => return Ok(Self::default()),
        };
        let text = std::fs::read_to_string(path).map_err(|source| SettingsError::File {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, SettingsError> {
        let yaml = |error: serde_yaml::Error| SettingsError::Yaml {
            path: path.to_owned(),
            message: error.to_string(),
        };
        let setting = |source| SettingsError::Setting {
            path: path.to_owned(),
            source,
        };
        let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(yaml)?;
        if tree.is_null() {
            return Ok(Self::default());
        }
        let settings: Self = serde_path_to_error::deserialize(tree).map_err(|error| {
            setting(SettingError::new(
                error.path().to_string(),
                error.inner().to_string(),
            ))
        })?;
        host_secrets::check(&settings.secrets, settings.vault.as_ref()).map_err(setting)?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_optional_and_mistakes_name_file_and_key() {
        let folder = tempfile::tempdir().unwrap();
        let read = |given: Option<&Path>| AgentSettings::read(given, folder.path());
        assert_eq!(read(None).unwrap(), AgentSettings::default());
        assert!(read(Some(&folder.path().join("nowhere"))).is_err());
        let path = folder.path().join(FILE);
        for (text, expected) in [
            ("secrets: {a: s3cret}", "secrets.a"),
            (
                "secrets: {a: {vault: {path: p, field: f}}}",
                "secrets.a.vault",
            ),
            ("secret: {}", "secret"),
            ("a: [", "not YAML"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(None).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains(expected), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        std::fs::write(&path, "secrets: {a: {env: A}}").unwrap();
        assert_eq!(read(None).unwrap().secrets.len(), 1);
    }
}
