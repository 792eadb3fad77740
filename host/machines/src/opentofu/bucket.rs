//! Deletes the empty state of a destroyed machine from its bucket, for which OpenTofu and Terraform have no command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, ObjectStoreExt as _, RetryConfig};

use crate::config::S3State;

/// The time limit of one request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many times a failed request is retried.
const RETRIES_MAX: usize = 2;

/// The object that holds a machine's state.
pub(super) fn object(s3: &S3State, machine: &str) -> String {
    format!("{}{machine}.tfstate", s3.prefix)
}

/// Deletes an empty state, with the credentials of the provider's environment or the machine's own role.
pub(super) async fn delete(
    s3: &S3State,
    machine: &str,
    secrets: &BTreeMap<String, PathBuf>,
) -> anyhow::Result<()> {
    let retry = RetryConfig {
        max_retries: RETRIES_MAX,
        retry_timeout: TIMEOUT,
        ..RetryConfig::default()
    };
    let mut options = ClientOptions::new().with_timeout(TIMEOUT);
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_retry(retry);
    if let Some(endpoint) = &s3.endpoint {
        options = options.with_allow_http(endpoint.starts_with("http://"));
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    let secret = |name: &str| -> anyhow::Result<Option<String>> {
        let Some(file) = secrets.get(name) else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("can't read {}", file.display()))?;
        Ok(Some(text.trim().to_owned()))
    };
    if let Some(id) = secret("AWS_ACCESS_KEY_ID")? {
        builder = builder.with_access_key_id(id);
    }
    if let Some(key) = secret("AWS_SECRET_ACCESS_KEY")? {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(token) = secret("AWS_SESSION_TOKEN")? {
        builder = builder.with_token(token);
    }
    let store = builder.with_client_options(options).build()?;
    match store.delete(&ObjectPath::from(object(s3, machine))).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        outcome => Ok(outcome?),
    }
}
