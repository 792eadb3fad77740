//! The client of HashiCorp Vault and OpenBao that keys and plugin secrets share.
//!
//! [`Vault`] logs in and makes calls; [`VaultKv`] reads values of the KV engine. Who wraps keys with the Transit engine builds
//! that on [`Vault`]. Tokens and values are secrecy types; no error repeats them.

mod connection;
mod http;
mod kv;
mod login;

pub use connection::{AppRole, Connection, VaultKvConfig, check_name, is_private};
pub use kv::VaultKv;
pub use reqwest::Method;

use std::sync::Arc;

use anyhow::Context;
use host_domain::time::Clock;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use http::{Call, VaultHttp};
use login::Login;

/// Why the vault did not do what was requested.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The vault is unreachable or sealed; a later attempt may succeed.
    #[error("the vault is unavailable")]
    Unavailable(#[source] anyhow::Error),
    /// The vault rejects the login or its policy forbids the call.
    #[error("the vault denies access: {0}")]
    Denied(String),
    /// The vault refuses the request, and would refuse it again.
    #[error("the vault refuses the request: {0}")]
    Refused(String),
}

/// One vault and the login that this process has there.
pub struct Vault {
    http: VaultHttp,
    login: Login,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

impl Vault {
    /// Reads the files that the settings name; makes no call.
    pub fn new(connection: &Connection, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        Ok(Self {
            http: VaultHttp::new(connection).context("the client can't be made")?,
            login: Login::new(connection, clock),
        })
    }

    /// Makes a call to a path below `/v1/` and returns the `data` of its answer.
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, VaultError> {
        let call = Call { method, path, body };
        let token = self.login.token(&self.http).await?;
        let answer = match self.http.call(&call, Some(&token)).await {
            // The token may have expired or been revoked: one new login is worth a try.
            Err(VaultError::Denied(_)) => {
                self.login.forget(&token).await;
                let token = self.login.token(&self.http).await?;
                self.http.call(&call, Some(&token)).await?
            }
            answer => answer?,
        };
        let Answer { data } = http::parse(&answer)?;
        Ok(data)
    }
}
