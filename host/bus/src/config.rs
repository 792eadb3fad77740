//! How the hosts of one installation tell each other what happens. The address may hold a password, so it shows itself to
//! nobody by accident.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use host_domain::time::duration_text;
use serde::{Deserialize, Serialize, Serializer};

/// The event bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// `nats://USER:PASSWORD@HOST:4222`, or `tls://…`; several are separated by commas. Absent: inside this process. Secret.
    pub nats_url: Option<NatsUrl>,
    /// A file that holds the address instead, so that a password is in neither the settings nor the environment.
    pub nats_url_file: Option<PathBuf>,
    /// Certificates, in PEM, of the authority that signed the servers', where the system does not know it.
    pub nats_ca_file: Option<PathBuf>,
    /// How every name on the servers begins; installations that share servers need one each. Letters, digits, `-` and `_`.
    pub prefix: String,
    /// How often a host polls for commits of other hosts, in case a wake-up was lost.
    #[serde(with = "duration_text")]
    pub poll_interval: Duration,
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            nats_url: None,
            nats_url_file: None,
            nats_ca_file: None,
            prefix: "bellwether".to_owned(),
            poll_interval: Duration::from_secs(5),
        }
    }
}

impl EventsConfig {
    /// The address that counts; `None` where no server is asked for.
    pub fn address(&self) -> anyhow::Result<Option<NatsUrl>> {
        match (&self.nats_url, &self.nats_url_file) {
            (Some(_), Some(_)) => {
                bail!("`events.nats_url` and `events.nats_url_file` are both set; keep one of them")
            }
            (Some(url), None) => Ok(Some(url.clone())),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path).with_context(|| {
                    format!("can't read `events.nats_url_file` {}", path.display())
                })?;
                Ok(Some(NatsUrl(text.trim().to_owned())))
            }
            (None, None) => Ok(None),
        }
    }

    /// The beginning of every name, which no server takes for anything else.
    pub fn checked_prefix(&self) -> anyhow::Result<&str> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(is_plain) {
            bail!("`events.prefix` has 1 to 64 letters, digits, `-` and `_`");
        }
        Ok(&self.prefix)
    }
}

/// An address of NATS servers. It prints as `(secret)`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct NatsUrl(String);

impl NatsUrl {
    /// An address.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The address itself, for who connects.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Serialize for NatsUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_servers_shows_itself_to_nobody_and_comes_from_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("url");
        std::fs::write(&file, "nats://bellwether:hunter2@bus:4222\n").unwrap();
        let mut config = EventsConfig {
            nats_url_file: Some(file),
            ..EventsConfig::default()
        };
        let url = config.address().unwrap().unwrap();
        assert_eq!(url.expose(), "nats://bellwether:hunter2@bus:4222");
        config.nats_url = Some(url);
        assert!(config.address().is_err(), "two places");
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(EventsConfig::default().address().unwrap(), None);
    }

    #[test]
    fn a_prefix_is_one_plain_word() {
        for (prefix, is_right) in [
            ("bellwether", true),
            ("a-b_9", true),
            ("", false),
            ("a.b", false),
            ("a>", false),
        ] {
            let config = EventsConfig {
                prefix: prefix.to_owned(),
                ..EventsConfig::default()
            };
            assert_eq!(config.checked_prefix().is_ok(), is_right, "{prefix}");
        }
    }
}
