//! The settings of the database; Debug and Serialize hide the address, which may contain a password.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize, Serializer};

/// The database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite://FILE` or `postgres://USER@HOST/DATABASE`; by default a SQLite file in `state_dir`. Secret.
    pub url: Option<DatabaseUrl>,
    /// A file that contains the address, so that neither the settings nor the environment contain a password.
    pub url_file: Option<PathBuf>,
}

impl DatabaseConfig {
    /// The effective address.
    pub fn address(&self, state_dir: &Path) -> anyhow::Result<DatabaseUrl> {
        match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => {
                bail!("`database.url` and `database.url_file` are both set; remove one of them")
            }
            (Some(url), None) => Ok(url.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("the host can't read `database.url_file` {}", path.display())
                })?;
                Ok(DatabaseUrl::new(text.trim()))
            }
            (None, None) => {
                let file = state_dir.join("bellwether.db");
                Ok(DatabaseUrl::new(format!("sqlite://{}", file.display())))
            }
        }
    }
}

/// An address of a database. It prints as `(secret)`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// An address.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address in plain text, for connecting.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it names a SQLite file.
    pub fn is_sqlite(&self) -> bool {
        self.0.starts_with("sqlite:")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_itself_to_nobody() {
        let url = DatabaseUrl::new("postgres://bellwether:hunter2@db/x");
        let config = DatabaseConfig {
            url: Some(url.clone()),
            url_file: None,
        };
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(config.address(Path::new("x")).unwrap(), url);
    }

    #[test]
    fn an_address_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "postgres://db/x\n").unwrap();
        let mut config = DatabaseConfig {
            url: None,
            url_file: Some(file.clone()),
        };
        assert_eq!(
            config.address(folder.path()).unwrap().expose(),
            "postgres://db/x"
        );
        config.url = Some(DatabaseUrl::new("sqlite://y"));
        assert!(config.address(folder.path()).is_err());
        let own = DatabaseConfig::default().address(Path::new("state"));
        assert_eq!(own.unwrap().expose(), "sqlite://state/bellwether.db");
        std::fs::remove_file(file).unwrap();
        config.url = None;
        let error = config.address(folder.path()).unwrap_err().to_string();
        assert!(error.contains("database.url_file"), "{error}");
    }
}
