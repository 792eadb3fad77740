//! Validates the section `workflows.temporal` of the configuration and reads the files that it names.

use std::path::Path;

use anyhow::{Context, bail};
use secrecy::SecretString;

use super::{TemporalOptions, TlsOptions};
use crate::TemporalConfig;

impl TemporalConfig {
    /// The options of the engine; reads the files.
    pub fn options(&self) -> anyhow::Result<TemporalOptions> {
        let Some(url) = &self.url else {
            bail!(
                "`workflows.engine` is `temporal` but `workflows.temporal.url` is not set; set the URL of Temporal, such as http://127.0.0.1:7233"
            );
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            bail!("`workflows.temporal.url` must be http://HOST:PORT or https://HOST:PORT");
        }
        for (key, name) in [
            ("namespace", &self.namespace),
            ("task_queue", &self.task_queue),
        ] {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 200 || !name.chars().all(is_plain) {
                bail!(
                    "`workflows.temporal.{key}` must have 1 to 200 letters, digits, `-`, `_` and `.`"
                );
            }
        }
        let tls = self.tls()?;
        let api_key = read("api_key_file", self.api_key_file.as_deref())?.map(|key| secret(&key));
        let is_secured = api_key.is_some() || tls.ca.is_some() || tls.client.is_some();
        if url.scheme() == "http" && (is_secured || tls.server_name.is_some()) {
            bail!(
                "`workflows.temporal.url` starts with http:// but other keys of `workflows.temporal` require TLS; write https://"
            );
        }
        Ok(TemporalOptions {
            namespace: self.namespace.clone(),
            create_namespace: self.create_namespace,
            retention: self.retention,
            task_queue: self.task_queue.clone(),
            tls,
            api_key,
            ..TemporalOptions::new(url.clone())
        })
    }

    fn tls(&self) -> anyhow::Result<TlsOptions> {
        let certificate = read("client_cert_file", self.client_cert_file.as_deref())?;
        let key = read("client_key_file", self.client_key_file.as_deref())?;
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, secret(&key))),
            (None, None) => None,
            _ => bail!(
                "`workflows.temporal.client_cert_file` and `workflows.temporal.client_key_file` go together; set both or none"
            ),
        };
        Ok(TlsOptions {
            ca: read("ca_file", self.ca_file.as_deref())?,
            client,
            server_name: self.server_name.clone(),
        })
    }
}

fn read(key: &str, path: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    let content = path.map(|path| {
        std::fs::read(path).with_context(|| {
            format!(
                "the host can't read `workflows.temporal.{key}` {}",
                path.display()
            )
        })
    });
    content.transpose()
}

fn secret(bytes: &[u8]) -> SecretString {
    String::from_utf8_lossy(bytes).trim().to_owned().into()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use std::path::PathBuf;

    use super::*;

    fn config(url: &str) -> TemporalConfig {
        TemporalConfig {
            url: Some(url.parse().unwrap()),
            ..TemporalConfig::default()
        }
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        let missing = Some(PathBuf::from("/nowhere/file"));
        let plain = config("https://temporal:7233");
        let cases = [
            (TemporalConfig::default(), "workflows.temporal.url"),
            (config("postgres://temporal"), "workflows.temporal.url"),
            (
                TemporalConfig {
                    namespace: "a b".to_owned(),
                    ..plain.clone()
                },
                "workflows.temporal.namespace",
            ),
            (
                TemporalConfig {
                    task_queue: String::new(),
                    ..plain.clone()
                },
                "workflows.temporal.task_queue",
            ),
            (
                TemporalConfig {
                    ca_file: missing.clone(),
                    ..plain.clone()
                },
                "workflows.temporal.ca_file",
            ),
            (
                TemporalConfig {
                    api_key_file: missing,
                    ..plain.clone()
                },
                "workflows.temporal.api_key_file",
            ),
            (
                TemporalConfig {
                    server_name: Some("temporal.internal".to_owned()),
                    ..config("http://temporal:7233")
                },
                "workflows.temporal.url",
            ),
        ];
        for (config, key) in cases {
            let error = config.options().err().unwrap();
            assert!(format!("{error:#}").contains(key), "{key}: {error:#}");
        }
        assert!(plain.options().is_ok());
    }

    #[test]
    fn a_key_comes_from_its_file_and_is_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "hunter2\n").unwrap();
        let config = TemporalConfig {
            api_key_file: Some(file.clone()),
            client_cert_file: Some(file.clone()),
            ..config("https://temporal:7233")
        };
        let error = config.options().err().unwrap().to_string();
        assert!(error.contains("client_key_file"), "{error}");
        let config = TemporalConfig {
            client_key_file: Some(file),
            ..config
        };
        let options = config.options().unwrap();
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(options.api_key.unwrap().expose_secret(), "hunter2");
    }
}
