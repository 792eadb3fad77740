//! Posts incidents as JSON to an HTTP endpoint.
//!
//! The body is versioned and documented in docs/chain-author.md. The header `Idempotency-Key` is the notification's
//! id, the same in every attempt, so that the receiver can drop repeats.

#![forbid(unsafe_code)]

mod body;

use std::collections::BTreeMap;

use bellwether_plugin_sdk::notifier::{Notification, Receipt};
use bellwether_plugin_sdk::{BadField, Capability, Failure, Notifier, http, register, secrets};
use schemars::JsonSchema;
use serde::Deserialize;

use body::Body;

/// How much of the endpoint's response the delivery log contains.
const DETAIL_CHARS_MAX: usize = 200;

/// The settings: where and how to post.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The endpoint: a granted absolute URL.
    url: String,
    /// Additional headers.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A header with a secret as its value, which the host inserts.
    secret_header: Option<SecretHeader>,
}

/// A header with a secret as its value.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SecretHeader {
    /// The header's name, such as `authorization`.
    name: String,
    /// The granted secret's name.
    secret: String,
    /// Whether the value is `Bearer ` and the secret.
    #[serde(default)]
    bearer: bool,
    /// The user of basic authentication, whose password the secret is.
    user: Option<String>,
}

struct Webhook;

impl Notifier for Webhook {
    type Config = Config;
    const WANTS: &[Capability] = &[Capability::Http];

    fn check(config: &Config) -> Result<(), BadField> {
        let header = config.secret_header.as_ref();
        if header.is_some_and(|header| header.bearer && header.user.is_some()) {
            return Err(BadField {
                path: "/secret_header/user".into(),
                reason: "is for basic authentication; leave out either `user` or `bearer`".into(),
            });
        }
        if config.url.starts_with("http://") || config.url.starts_with("https://") {
            return Ok(());
        }
        Err(BadField {
            path: "/url".into(),
            reason: "must start with https:// or http://".into(),
        })
    }

    fn deliver(config: &Config, notification: &Notification) -> Result<Receipt, Failure> {
        let secret = config
            .secret_header
            .as_ref()
            .map(|header| secrets::get(&header.secret))
            .transpose()?;
        let mut request = http::post(&config.url)
            .header("idempotency-key", &notification.id)
            .header(
                "user-agent",
                concat!("bellwether-webhook/", env!("CARGO_PKG_VERSION")),
            )
            .json(&Body::of(notification))?;
        for (name, value) in &config.headers {
            request = request.header(name, value);
        }
        if let (Some(header), Some(secret)) = (&config.secret_header, &secret) {
            request = match &header.user {
                Some(user) => request.basic_header(&header.name, user, secret),
                None if header.bearer => request.bearer_header(&header.name, secret),
                None => request.secret_header(&header.name, secret),
            };
        }
        let answer = request.send()?;
        receipt(answer.status, &answer.text(), answer.header("x-request-id"))
    }
}

/// The meaning of a response: delivered, retry, or failed.
fn receipt(status: u16, text: &str, reference: Option<&str>) -> Result<Receipt, Failure> {
    let excerpt: String = text.chars().take(DETAIL_CHARS_MAX).collect();
    let detail = format!("{status} {excerpt}").trim_end().to_owned();
    match status {
        200..300 => Ok(Receipt {
            reference: reference.map(Into::into),
            detail,
        }),
        408 | 429 => Err(Failure::upstream(format!(
            "the endpoint requests a retry later: {detail}"
        ))),
        400..500 => Err(Failure::other(format!(
            "the endpoint rejects the notification: {detail}"
        ))),
        300..400 => Err(Failure::other(format!(
            "the endpoint redirects, which the plugin does not follow: {detail}"
        ))),
        _ => Err(Failure::upstream(format!("the endpoint failed: {detail}"))),
    }
}

register!(notifier: Webhook);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_what_they_mean() {
        for status in [200, 202, 204, 299] {
            assert!(receipt(status, "", None).is_ok(), "{status}");
        }
        for status in [301, 400, 401, 404, 410, 422] {
            assert!(
                matches!(receipt(status, "", None), Err(Failure::Other(_))),
                "{status}"
            );
        }
        for status in [100, 408, 429, 500, 502, 503, 599] {
            assert!(
                matches!(receipt(status, "", None), Err(Failure::Upstream(_))),
                "{status}"
            );
        }
        let receipt = receipt(200, &"x".repeat(1000), Some("r-1")).unwrap();
        assert_eq!(
            (receipt.detail.len(), receipt.reference.as_deref()),
            (204, Some("r-1"))
        );
    }
}
