//! The settings of backups of encrypted node keys.

use std::path::PathBuf;
use std::time::Duration;

use host_domain::time::duration_text;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{is_private, wrong};
use host_domain::setting::SettingError;

/// Backups of encrypted node keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// `file:///FOLDER` or `s3://BUCKET/PREFIX`.
    pub url: Url,
    /// The access to the bucket; by default the machine's own role.
    #[serde(default)]
    pub s3: Option<S3Config>,
    /// The time limit of one request.
    #[serde(default = "ten_seconds", with = "duration_text")]
    pub timeout: Duration,
}

/// The access to a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// `https://s3.internal`; `http://` only on this machine. AWS when absent.
    #[serde(default)]
    pub endpoint: Option<Url>,
    /// The bucket's region.
    #[serde(default = "us_east_1")]
    pub region: String,
    /// The access key id; not a secret.
    #[serde(default)]
    pub access_key_id: Option<String>,
    /// A file with the secret key.
    #[serde(default)]
    pub secret_access_key_file: Option<PathBuf>,
    /// PEM file with an additional certificate authority for the endpoint.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The place that the URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupPlace {
    /// A folder on this machine.
    Folder(PathBuf),
    /// A part of a bucket.
    Bucket {
        /// The bucket.
        bucket: String,
        /// Prefix of all names; may be empty.
        prefix: String,
    },
}

impl BackupConfig {
    /// A place that uses the machine's own role.
    pub fn at(url: Url) -> Self {
        Self {
            url,
            s3: None,
            timeout: ten_seconds(),
        }
    }

    /// The place that the URL names.
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

/// Validates rules that concern several keys.
pub(super) fn check(backup: &BackupConfig) -> Result<(), SettingError> {
    backup.place()?;
    if backup.timeout.is_zero() {
        let longer = "must be longer than zero";
        return Err(wrong("keys.backup.timeout", longer));
    }
    let Some(s3) = &backup.s3 else {
        return Ok(());
    };
    if s3.endpoint.as_ref().is_some_and(|url| !is_private(url)) {
        let plain = "must start with `https://`";
        return Err(wrong("keys.backup.s3.endpoint", plain));
    }
    if s3.access_key_id.is_some() != s3.secret_access_key_file.is_some() {
        let both = "must have both or neither of `access_key_id` and `secret_access_key_file`";
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
