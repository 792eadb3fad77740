//! The `keys.backup` section of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::config::scalars::DurationText;
use host_domain::time::duration_text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::wrong;
use host_domain::setting::SettingError;
use host_vault::is_private;

/// Copies of the encrypted keys of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// Where the copies are: `file:///FOLDER` or `s3://BUCKET/PREFIX`.
    #[schemars(example = "s3://bellwether-backup/keys")]
    pub url: Url,
    /// How the host reaches an S3 bucket. When absent, the host uses AWS with the role of its machine.
    #[serde(default)]
    pub s3: Option<S3Config>,
    /// Longest time for one call.
    #[serde(default = "ten_seconds", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub timeout: Duration,
}

/// How the host reaches an S3 bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Address of the service; `http://` is allowed for this machine only. AWS when absent.
    #[schemars(example = "https://s3.internal")]
    #[serde(default)]
    pub endpoint: Option<Url>,
    /// Region of the bucket.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// Access key id; not a secret.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// File with the secret access key.
    #[serde(default)]
    pub secret_access_key_file: Option<PathBuf>,
    /// File with CA certificates, in PEM, that verify the service, in addition to the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// What the address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket {
        /// The bucket.
        bucket: String,
        /// What all names in it begin with; may be empty.
        prefix: String,
    },
}

impl BackupConfig {
    /// A backup at `url`, reached with the role of the machine.
    pub fn at(url: Url) -> Self {
        Self {
            url,
            s3: None,
            timeout: ten_seconds(),
        }
    }

    /// What the address names.
    pub fn place(&self) -> Result<BackupPlace, SettingError> {
        let named = match self.url.scheme() {
            "file" => self.url.to_file_path().ok().map(BackupPlace::Folder),
            "s3" => self.url.host_str().map(|bucket| BackupPlace::Bucket {
                bucket: bucket.to_owned(),
                prefix: self.url.path().trim_matches('/').to_owned(),
            }),
            _ => None,
        };
        let forms = "must be `file:///FOLDER` or `s3://BUCKET/PREFIX`";
        named.ok_or_else(|| wrong("keys.backup.url", forms))
    }
}

/// What no single key can say.
pub(super) fn check(backup: &BackupConfig) -> Result<(), SettingError> {
    backup.place()?;
    if backup.timeout.is_zero() {
        let longer = "must be longer than nothing";
        return Err(wrong("keys.backup.timeout", longer));
    }
    let Some(s3) = &backup.s3 else {
        return Ok(());
    };
    if s3.endpoint.as_ref().is_some_and(|url| !is_private(url)) {
        let plain = "must begin with `https://`";
        return Err(wrong("keys.backup.s3.endpoint", plain));
    }
    if s3.access_key_id.is_some() != s3.secret_access_key_file.is_some() {
        let both = "needs both or neither of `access_key_id` and `secret_access_key_file`";
        return Err(wrong("keys.backup.s3", both));
    }
    Ok(())
}

fn us_east_1() -> String {
    "us-east-1".to_owned()
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
