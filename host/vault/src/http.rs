//! Calls to the vault: each with a time limit, tried a few times while the vault is unavailable, and told apart by what can be done.

use std::time::Duration;

use anyhow::Context;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use crate::VaultError;
use crate::connection::Connection;

/// Tries of a call while the vault is unavailable, the first one included.
const TRIES_MAX: u32 = 3;
/// The pause after the first try; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(250);
/// Characters of the vault's own words that are repeated.
const SAID_MAX: usize = 300;
/// More than any answer that is asked for here.
const ANSWER_MAX: u64 = 1024 * 1024;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// One call.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below `/v1/`.
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a Value>,
}

/// The vault's address, and how it is spoken to.
pub(crate) struct VaultHttp {
    client: reqwest::Client,
    address: Url,
}

impl VaultHttp {
    pub(crate) fn new(config: &Connection) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::from_iter([(REQUEST, HeaderValue::from_static("true"))]);
        if let Some(namespace) = &config.namespace {
            let value = HeaderValue::from_str(namespace).context("`namespace`")?;
            headers.insert(NAMESPACE, value);
        }
        // No redirects: a token goes to the vault that was named and to no other.
        let mut client = reqwest::Client::builder()
            .timeout(config.timeout)
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &config.ca_file {
            let pem = std::fs::read(path)
                .with_context(|| format!("`ca_file` {} can't be read", path.display()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem)
                .with_context(|| format!("`ca_file` {} is no PEM", path.display()))?;
            client = client.tls_certs_only(authorities);
        }
        Ok(Self {
            client: client.build()?,
            address: config.address.clone(),
        })
    }

    /// The body of the answer. Only what may be mended by another try gets one.
    pub(crate) async fn call(
        &self,
        call: &Call<'_>,
        token: Option<&SecretString>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let mut tries = 1;
        loop {
            match self.once(call, token).await {
                Err(VaultError::Unavailable(why)) if tries < TRIES_MAX => {
                    tracing::debug!(tries, "the vault does not answer: {why:#}");
                    tokio::time::sleep(PAUSE * (1 << (tries - 1))).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn once(
        &self,
        call: &Call<'_>,
        token: Option<&SecretString>,
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let base = self.address.as_str().trim_end_matches('/');
        let url = format!("{base}/v1/{}", call.path);
        let mut request = self.client.request(call.method.clone(), url);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose_secret())
                .map_err(|_| VaultError::Denied("the token is no text of one line".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(TOKEN, value);
        }
        if let Some(body) = call.body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(unavailable)?;
        let status = answer.status();
        if answer.content_length().unwrap_or(0) > ANSWER_MAX {
            return Err(VaultError::Refused("its answer is too long".to_owned()));
        }
        let body = answer.bytes().await.map_err(unavailable)?;
        if status.is_success() {
            return Ok(Zeroizing::new(body.to_vec()));
        }
        Err(refusal(status, &body))
    }
}

/// Reads an answer.
pub(crate) fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, VaultError> {
    // What could not be read is not repeated: it may be a secret.
    serde_json::from_slice(body)
        .map_err(|_| VaultError::Refused("its answer is not that of a vault".to_owned()))
}

fn unavailable(error: reqwest::Error) -> VaultError {
    VaultError::Unavailable(anyhow::Error::from(error).context("the vault can't be reached"))
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// Sealed, standby without a leader and overload heal by themselves; the rest needs a person.
fn refusal(status: StatusCode, body: &[u8]) -> VaultError {
    let said = serde_json::from_slice::<Errors>(body);
    let said = said.map_or_else(|_| String::new(), |said| said.errors.join("; "));
    let said: String = said.chars().take(SAID_MAX).collect();
    let text = format!("{} {said}", status.as_u16());
    match status {
        StatusCode::FORBIDDEN => VaultError::Denied(text),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::PRECONDITION_FAILED => {
            VaultError::Unavailable(anyhow::anyhow!("the vault answers {text}"))
        }
        status if status.is_server_error() || status.as_u16() == 472 || status.as_u16() == 473 => {
            VaultError::Unavailable(anyhow::anyhow!("the vault answers {text}"))
        }
        _ => VaultError::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_heals_by_itself_is_told_from_what_needs_a_person() {
        let of = |status: u16, body: &str| {
            refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        let sealed = of(503, r#"{"errors":["Vault is sealed"]}"#);
        assert!(
            matches!(&sealed, VaultError::Unavailable(why) if why.to_string().contains("Vault is sealed"))
        );
        for status in [412, 429, 473, 500, 502] {
            assert!(
                matches!(of(status, ""), VaultError::Unavailable(_)),
                "{status}"
            );
        }
        assert!(matches!(of(403, ""), VaultError::Denied(_)));
        assert!(matches!(of(404, "no json"), VaultError::Refused(_)));
        let long = format!(r#"{{"errors":["{}"]}}"#, "x".repeat(5_000));
        assert!(of(400, &long).to_string().len() < 1_000);
    }
}
