//! The token by which the vault knows this host: from a file, or from a login by AppRole; renewed before it ends.
//!
//! A file is read again whenever the vault refuses its token, so that whoever writes it, such as Vault's own agent, may
//! replace it at any time. What refuses to be renewed is replaced by a new login.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host_domain::time::{Clock, Millis};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::VaultError;
use crate::connection::{AppRole, Connection};
use crate::http::{Call, VaultHttp, parse};

/// When a renewal finds the vault unavailable, the token is used on and the next renewal is tried after this.
const AGAIN: Duration = Duration::from_secs(10);

/// Where the token comes from, and the one in use.
pub(crate) struct Login {
    /// The section of the settings, which errors name.
    section: &'static str,
    token_file: Option<std::path::PathBuf>,
    approle: Option<AppRole>,
    clock: Arc<dyn Clock>,
    token: Mutex<Option<Token>>,
}

struct Token {
    value: SecretString,
    /// From when on it is renewed; never, where it does not end.
    due: Option<Millis>,
    is_renewable: bool,
}

/// What a login and a renewal answer.
#[derive(Deserialize)]
struct AuthAnswer {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: SecretString,
    lease_duration: u64,
    renewable: bool,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct LookUpAnswer {
    data: LookUp,
}

#[derive(Deserialize)]
struct LookUp {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Login {
    pub(crate) fn new(config: &Connection, clock: Arc<dyn Clock>) -> Self {
        Self {
            section: config.section,
            token_file: config.token_file.clone(),
            approle: config.approle.clone(),
            clock,
            token: Mutex::new(None),
        }
    }

    /// A token that should be good: the present one, renewed when it is time, or that of a new login.
    pub(crate) async fn token(&self, http: &VaultHttp) -> Result<SecretString, VaultError> {
        let mut held = self.token.lock().await;
        if let Some(token) = held.as_mut() {
            let is_due = token.due.is_some_and(|due| due <= self.clock.now());
            if !is_due || (token.is_renewable && self.renew(http, token).await) {
                return Ok(token.value.clone());
            }
        }
        // The old one is dropped first: a login that fails must not leave it.
        *held = None;
        let token = self.log_in(http).await?;
        Ok(held.insert(token).value.clone())
    }

    /// Drops a token that was refused, if it is still the present one.
    pub(crate) async fn forget(&self, refused: &SecretString) {
        let mut held = self.token.lock().await;
        if held
            .as_ref()
            .is_some_and(|token| token.value.expose_secret() == refused.expose_secret())
        {
            *held = None;
        }
    }

    /// Whether the token can be used on.
    async fn renew(&self, http: &VaultHttp, token: &mut Token) -> bool {
        let call = Call {
            method: Method::POST,
            path: "auth/token/renew-self",
            body: Some(&json!({})),
        };
        let answer = http.call(&call, Some(&token.value)).await;
        match answer.and_then(|body| parse::<AuthAnswer>(&body)) {
            Ok(AuthAnswer { auth }) => {
                token.due = self.due(auth.lease_duration);
                token.is_renewable = auth.renewable;
                true
            }
            Err(VaultError::Unavailable(_)) => {
                token.due = Some(self.clock.now().plus(AGAIN));
                true
            }
            Err(error) => {
                tracing::info!("the vault renews the token no more, a new login follows: {error}");
                false
            }
        }
    }

    async fn log_in(&self, http: &VaultHttp) -> Result<Token, VaultError> {
        if let Some(approle) = &self.approle {
            return self.by_approle(http, approle).await;
        }
        let path = self.token_file.as_deref().unwrap_or(Path::new(""));
        let key = format!("{}.token_file", self.section);
        let value = secret(&key, path)?;
        let call = Call {
            method: Method::GET,
            path: "auth/token/lookup-self",
            body: None,
        };
        let answer = http.call(&call, Some(&value)).await;
        let LookUpAnswer { data } = parse(&answer.map_err(denied(key))?)?;
        Ok(Token {
            value,
            due: self.due(data.ttl),
            is_renewable: data.renewable,
        })
    }

    async fn by_approle(&self, http: &VaultHttp, approle: &AppRole) -> Result<Token, VaultError> {
        let key = format!("{}.approle", self.section);
        let secret_id = secret(&format!("{key}.secret_id_file"), &approle.secret_id_file)?;
        let body = json!({ "role_id": approle.role_id, "secret_id": secret_id.expose_secret() });
        let path = format!("auth/{}/login", approle.mount);
        let call = Call {
            method: Method::POST,
            path: &path,
            body: Some(&body),
        };
        let answer = http.call(&call, None).await;
        let AuthAnswer { auth } = parse(&answer.map_err(denied(key))?)?;
        Ok(Token {
            value: auth.client_token,
            due: self.due(auth.lease_duration),
            is_renewable: auth.renewable,
        })
    }

    /// Two thirds of the life leave time for a vault that is unavailable for a while. A life of 0 does not end.
    fn due(&self, seconds: u64) -> Option<Millis> {
        let life = (seconds > 0).then(|| Duration::from_secs(seconds))?;
        Some(self.clock.now().plus(life * 2 / 3))
    }
}

/// Reads a secret of one line. A file that is unavailable may come: whoever writes it was perhaps not that far.
fn secret(key: &str, path: &Path) -> Result<SecretString, VaultError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        VaultError::Denied(format!("`{key}` {} can't be read: {error}", path.display()))
    })?;
    Ok(SecretString::from(text.trim()))
}

/// Names the setting when the vault does not want what it names.
fn denied(key: String) -> impl Fn(VaultError) -> VaultError {
    move |error| match error {
        VaultError::Denied(why) | VaultError::Refused(why) => {
            VaultError::Denied(format!("`{key}`: {why}"))
        }
        error @ VaultError::Unavailable(_) => error,
    }
}
