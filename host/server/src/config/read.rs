//! Reads the configuration: defaults, then the file, then the environment; the last word wins.
//!
//! `BELLWETHER_HTTP__LISTEN=…` is the key `http.listen`. A mistake names its place: the file's path and key, or the variable.

use std::path::{Path, PathBuf};

use host_domain::setting::SettingError;
use host_domain::time::format_duration;
use serde_yaml::{Mapping, Value};

use super::Config;

/// How variables begin that set a key.
const PREFIX: &str = "BELLWETHER_";
/// Beats within a lease.
const LEASE_BEATS_MIN: u32 = 4;
/// Between the parts of a key in a variable's name.
const NESTING: &str = "__";

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration file {path}; check the path given with --config")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{path} is not YAML: {message}")]
    Yaml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// A key is unknown or its value can't be used.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

impl Config {
    /// Reads a file, if one is given, and the variables of the environment over it.
    pub fn read(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut tree = match path {
            Some(path) => file(path)?,
            None => Value::Mapping(Mapping::new()),
        };
        for (name, value) in environment {
            if let Some(key) = name
                .strip_prefix(PREFIX)
                .filter(|key| key.contains(NESTING))
            {
                let parts: Vec<String> = key.split(NESTING).map(str::to_lowercase).collect();
                set(&mut tree, &parts, scalar(&value));
            }
        }
        let config: Self = serde_path_to_error::deserialize(tree).map_err(|error| {
            SettingError::new(error.path().to_string(), error.inner().to_string())
        })?;
        host_machines::check(&config.machine_providers)?;
        config.keys.check()?;
        host_secrets::check(&config.secrets, config.vault.as_ref())?;
        config.check()
    }

    /// What only several keys together can get wrong.
    fn check(self) -> Result<Self, ConfigError> {
        // Three quarters of a lease without an answer end a process; one beat may be lost.
        let shortest = self.health.heartbeat.beat_interval * LEASE_BEATS_MIN;
        if self.migration.lease >= shortest {
            return Ok(self);
        }
        let shortest = format_duration(shortest);
        Err(SettingError::new("migration.lease", format!(
                "is too short for `health.heartbeat.beat_interval`: it takes at least {LEASE_BEATS_MIN} beats, {shortest}"
        )).into())
    }
}

fn file(path: &Path) -> Result<Value, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })?;
    let yaml = |error: serde_yaml::Error| ConfigError::Yaml {
        path: path.to_owned(),
        message: error.to_string(),
    };
    match serde_yaml::from_str(&text).map_err(yaml)? {
        // An empty file sets nothing.
        Value::Null => Ok(Value::Mapping(Mapping::new())),
        value => Ok(value),
    }
}

/// `true` and `8` are what they look like; everything else is text.
fn scalar(text: &str) -> Value {
    match serde_yaml::from_str(text) {
        Ok(value @ (Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn set(tree: &mut Value, parts: &[String], value: Value) {
    let Some((first, rest)) = parts.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_mapping() {
        *tree = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(map) = tree {
        set(
            map.entry(Value::String(first.clone()))
                .or_insert(Value::Null),
            rest,
            value,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bellwether.yaml");
        std::fs::write(&path, yaml).unwrap();
        let variables = environment
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::read(Some(&path), variables)
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_defaults() {
        let yaml = "health: {heartbeat: {beat_interval: 2s}}\nhttp: {listen: 127.0.0.1:1}";
        let config = read(yaml, &[("BELLWETHER_HTTP__LISTEN", "127.0.0.1:2")]).unwrap();
        assert_eq!(config.http.listen.port(), 2);
        assert_eq!(config.health.heartbeat.beat_interval.as_secs(), 2);
        assert_eq!(config.health.heartbeat.failures_for_down, 3);
        assert_eq!(read("", &[]).unwrap(), Config::default());
    }

    #[test]
    fn other_variables_of_ours_are_not_keys() {
        assert_eq!(
            read("", &[("BELLWETHER_HOST", "x")]).unwrap(),
            Config::default()
        );
    }

    #[test]
    fn mistakes_name_their_key() {
        for (yaml, environment, expected) in [
            ("http: {port: 1}", &[][..], "http"),
            ("http: {listen: here}", &[][..], "http.listen"),
            (
                "health: {heartbeat: {beat_interval: 5}}",
                &[][..],
                "health.heartbeat.beat_interval",
            ),
            ("", &[("BELLWETHER_HTTP__LISTEN", "x")][..], "http.listen"),
            ("", &[("BELLWETHER_HTTPS__LISTEN", "x")][..], "https"),
            ("keys: {wrapped_by: vault}", &[][..], "keys.vault"),
            (
                "keys: {backup: {url: 'ftp://x'}}",
                &[][..],
                "keys.backup.url",
            ),
            (
                "keys: {backup: {url: 's3://b', s3: {endpoint: 'http://s3.internal'}}}",
                &[][..],
                "keys.backup.s3.endpoint",
            ),
            (
                "keys: {backup: {url: 's3://b', s3: {access_key_id: a}}}",
                &[][..],
                "secret_access_key_file",
            ),
            ("keys: {vault: {}}", &[][..], "keys.vault"),
            (
                "keys: {vault: {address: 'http://vault.internal', token_file: t}}",
                &[][..],
                "keys.vault.address",
            ),
            (
                "keys: {vault: {address: 'https://vault.internal'}}",
                &[][..],
                "`token_file` or `approle`",
            ),
            (
                "keys: {vault: {address: 'https://vault.internal', token_file: t, key: ../sys}}",
                &[][..],
                "keys.vault.key",
            ),
            ("secrets: {hook: {}}", &[][..], "secrets.hook"),
            (
                "secrets: {hook: {vault: {path: a, field: b}}}",
                &[][..],
                "secrets.hook.vault",
            ),
            (
                "vault: {address: 'http://vault.internal', token_file: t}",
                &[][..],
                "vault.address",
            ),
            ("migration: {lease: 59s}", &[][..], "migration.lease"),
        ] {
            let error = read(yaml, environment).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml} {environment:?}: {error}");
        }
        assert!(matches!(read("a: [", &[]), Err(ConfigError::Yaml { .. })));
    }
}
