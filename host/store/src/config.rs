//! The `database` section of the configuration. The address may hold a password, so no output shows it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// The database of the installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Address of the database: `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`; the file `bellwether.db` in `state_dir` when absent.
    #[schemars(example = "postgres://bellwether@db.internal/bellwether")]
    pub url: Option<DatabaseUrl>,
    /// File with the value of `url`, which keeps a password out of the settings and the environment.
    pub url_file: Option<PathBuf>,
}

impl DatabaseConfig {
    /// The address to connect to, from the setting, its file or the default.
    pub fn address(&self, state_dir: &Path) -> anyhow::Result<DatabaseUrl> {
        match (&self.url, &self.url_file) {
            (Some(_), Some(_)) => {
                bail!("`database.url` and `database.url_file` are both set; keep one of them")
            }
            (Some(url), None) => Ok(url.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("can't read `database.url_file` {}", path.display())
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
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(inline, extend("x-secret" = true))]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// An address.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address itself, for the client that connects.
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
