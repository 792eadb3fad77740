//! Splits NATS addresses from the user name and password in them, so that a log can show the address.

use anyhow::{Context, bail};
use async_nats::ServerAddr;
use secrecy::SecretString;
use url::Url;

use crate::config::NatsUrl;

/// The servers and this host's credentials.
pub(super) struct Address {
    /// Without user names and passwords.
    pub(super) servers: Vec<ServerAddr>,
    pub(super) login: Login,
}

/// This host's credentials.
pub(super) enum Login {
    /// The servers need no credentials.
    Nobody,
    /// Only a token: `nats://TOKEN@HOST`.
    Token(SecretString),
    /// A user name and a password.
    User(String, SecretString),
}

/// Parses comma-separated addresses. No error repeats them, because they may contain a password.
pub(super) fn parse(url: &NatsUrl) -> anyhow::Result<Address> {
    let mut servers = Vec::new();
    let mut login = Login::Nobody;
    for text in url.expose().split(',').map(str::trim) {
        let mut url = Url::parse(text).context("the value is not a URL; write nats://HOST:4222")?;
        if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
            bail!("the URL must start with nats:// or tls:// and name a host");
        }
        let user = decoded(url.username());
        login = match (url.password(), user.is_empty()) {
            (Some(password), _) => Login::User(user, decoded(password).into()),
            (None, false) => Login::Token(user.into()),
            (None, true) => login,
        };
        // Both fail only without a host.
        let cleared = url.set_password(None).and_then(|()| url.set_username(""));
        if cleared.is_err() {
            bail!("the URL names no host; write nats://HOST:4222");
        }
        servers.push(
            ServerAddr::from_url(url).context("the URL is not the address of a NATS server")?,
        );
    }
    Ok(Address { servers, login })
}

/// Decodes percent-encoding.
fn decoded(text: &str) -> String {
    // Form decoding reads a plus sign as a space; a URL means a plus sign.
    let form = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(form.as_bytes());
    pairs
        .next()
        .map(|(key, _)| key.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn names_and_passwords_leave_the_addresses() {
        let url = NatsUrl::new("nats://bell:hunter%2B+2@a:4222, tls://b");
        let address = parse(&url).unwrap();
        let shown = format!("{:?}", address.servers);
        assert!(
            !shown.contains("hunter") && !shown.contains("bell"),
            "{shown}"
        );
        assert_eq!(address.servers.len(), 2);
        let Login::User(user, password) = address.login else {
            panic!("no user");
        };
        assert_eq!(
            (user.as_str(), password.expose_secret()),
            ("bell", "hunter++2")
        );
        let token = parse(&NatsUrl::new("nats://s3cret@a")).unwrap().login;
        assert!(matches!(token, Login::Token(token) if token.expose_secret() == "s3cret"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "hunter2",
            "http://hunter2@a",
            "nats://hunter2@",
            "nats://x:hunter2@[::1",
            "",
        ] {
            let Err(error) = parse(&NatsUrl::new(text)) else {
                panic!("{text} was taken");
            };
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
    }
}
