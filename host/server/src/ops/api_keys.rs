//! API keys: who holds one, and how people create, list and revoke them.
//!
//! A token is `bw_live_` and 43 characters of randomness. The host stores a keyed hash of it, finds the row by the token's first
//! characters, and shows the token once.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host_domain::api_key::{ApiKey, ApiKeyState, LIFETIME_MAX, LIFETIME_MIN, check_name};
use host_domain::ids::ApiKeyId;
use host_domain::time::{Millis, format_duration};
use host_store::{Db, Tx, retried};
use jiff::Timestamp;
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::api_key_uses::ApiKeyUses;
use super::audit::audit_with;
use super::records::Records;
use super::{OpError, Page, PageRequest, Principal, Scope};
use crate::tasks::Tasks;

/// How every token begins, for scanners of leaked secrets.
const TOKEN_PREFIX: &str = "bw_live_";
/// Characters by which a row is found; they are no secret.
const LOOKUP_CHARS: usize = TOKEN_PREFIX.len() + 8;

/// How often the key of a request that does not end is checked again.
const CHECKED_EVERY: Duration = Duration::from_secs(10);

/// What a token says about its bearer. Only the bearer of the whole token learns that its key is not valid any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The token of an active key.
    Caller(Box<Caller>),
    /// The token of a key that expired then.
    Expired(Millis),
    /// The token of a key that was revoked then.
    Revoked(Millis),
    /// No key has this token.
    Unknown,
}

/// Who sent a request, and with which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who they are and what they may do.
    pub principal: Principal,
    /// Their key.
    pub key: ApiKey,
}

/// When a new key expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// It is valid until it is revoked.
    Never,
    /// At a time.
    At(Millis),
    /// After a time.
    In(Duration),
}

/// What a new key shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewApiKey {
    /// Names the caller in the audit log.
    pub(crate) name: String,
    /// Names of scopes.
    pub(crate) scopes: Vec<String>,
    /// When it expires.
    pub(crate) expiry: Expiry,
}

/// A new key and its token, which is shown once.
#[derive(Debug)]
pub(crate) struct CreatedApiKey {
    /// The token.
    pub(crate) token: SecretString,
    /// The key.
    pub(crate) key: ApiKey,
}

/// Use cases on API keys.
#[derive(Clone)]
pub struct ApiKeys {
    records: Records,
    /// The key of the hashes of tokens.
    pepper: hmac::Key,
    uses: ApiKeyUses,
}

impl ApiKeys {
    /// Also starts the task that records when keys are used.
    pub(crate) fn new(records: Records, pepper: hmac::Key, tasks: &Tasks) -> Self {
        Self {
            uses: ApiKeyUses::start(records.db.clone(), tasks),
            records,
            pepper,
        }
    }

    /// Finds out who bears a token.
    pub async fn authenticate(&self, bearer: &SecretString) -> Result<Authentication, OpError> {
        let text = bearer.expose_secret();
        let Some(lookup) = text
            .get(..LOOKUP_CHARS)
            .filter(|text| text.starts_with(TOKEN_PREFIX))
        else {
            return Ok(Authentication::Unknown);
        };
        let Some(key) = self.records.db.api_key_by_prefix(lookup).await? else {
            return Ok(Authentication::Unknown);
        };
        let hash = token_hash(&self.pepper, text);
        if constant_time::verify_slices_are_equal(hash.as_bytes(), key.hash.as_bytes()).is_err() {
            return Ok(Authentication::Unknown);
        }
        let now = self.records.now();
        Ok(match key.state(now) {
            ApiKeyState::Active => Authentication::Caller(Box::new(Caller {
                principal: principal(&key),
                key,
            })),
            ApiKeyState::Expired => Authentication::Expired(key.expires_at.unwrap_or(now)),
            ApiKeyState::Revoked => Authentication::Revoked(key.revoked_at.unwrap_or(now)),
        })
    }

    /// Reports that a request used a key, without waiting.
    pub(crate) fn report_use(&self, key: &ApiKey) {
        self.uses.report(key, self.records.now());
    }

    /// Keys in a state at a time, or all, newest first.
    pub(crate) async fn list(
        &self,
        state: Option<ApiKeyState>,
        page: &PageRequest,
        now: Millis,
    ) -> Result<Page<ApiKey>, OpError> {
        let (db, after) = (&self.records.db, page.after()?);
        let rows = db.list_api_keys(state, now, after, page.rows()).await?;
        Ok(Page::cut(rows, page, |key| key.id.to_string()))
    }

    /// Creates a key and returns its token, the only time that the token is known.
    pub(crate) async fn create(
        &self,
        who: &Principal,
        new: NewApiKey,
        now: Millis,
    ) -> Result<CreatedApiKey, OpError> {
        if let Some(id) = who.effect_on::<ApiKeyId>("api_key") {
            return Err(OpError::Conflict(format!(
                "this request already created the API key `{id}`, and the host showed its token once; if the token is lost, revoke the key and create another one"
            )));
        }
        let random: [u8; 32] = rand::rng().random();
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        check_name(&new.name).map_err(|reason| OpError::invalid("/name", reason))?;
        let key = ApiKey {
            id: ApiKeyId(Uuid::now_v7()),
            prefix: token[..LOOKUP_CHARS].to_owned(),
            hash: token_hash(&self.pepper, &token),
            name: new.name,
            scopes: check_scopes(&new.scopes)?,
            created_at: now,
            created_by: who.name.clone(),
            expires_at: check_expiry(new.expiry, now)?,
            last_used_at: None,
            revoked_at: None,
        };
        retried(|| insert(&self.records.db, who, &key)).await?;
        let token = SecretString::from(token);
        Ok(CreatedApiKey { token, key })
    }

    /// Creates a key of the host's own, which never expires, and returns its token, the only time that the token is known.
    pub async fn create_for_host(
        &self,
        name: &str,
        scopes: &BTreeSet<Scope>,
    ) -> Result<SecretString, OpError> {
        let names = scopes.iter().map(|scope| scope.as_str().to_owned());
        let new = NewApiKey {
            name: name.to_owned(),
            scopes: names.collect(),
            expiry: Expiry::Never,
        };
        let (host, now) = (Principal::host(), self.records.now());
        Ok(self.create(&host, new, now).await?.token)
    }

    /// Revokes a key by its id, or an active one by its name. Every request reads its key's row, so no host accepts the token
    /// after the commit.
    pub(crate) async fn revoke(&self, who: &Principal, key: &str) -> Result<(), OpError> {
        if who.effect_on::<ApiKeyId>("api_key").is_some() {
            return Ok(());
        }
        let now = self.records.now();
        retried(|| revoke(&self.records.db, who, key, now)).await
    }

    /// Completes when a key is not valid any more, which ends what its bearer began with it.
    pub(crate) fn ended(&self, id: ApiKeyId) -> impl Future<Output = ()> + Send + use<> {
        let records = self.records.clone();
        async move {
            loop {
                tokio::time::sleep(CHECKED_EVERY).await;
                match records.db.api_key(id).await {
                    Ok(Some(key)) if key.state(records.now()) == ApiKeyState::Active => {}
                    Ok(_) => return,
                    Err(error) => tracing::debug!("API key {id} is checked again later: {error}"),
                }
            }
        }
    }
}

fn principal(key: &ApiKey) -> Principal {
    let scopes = key.scopes.iter().filter_map(|scope| Scope::parse(scope));
    Principal {
        name: key.name.clone(),
        scopes: scopes.collect(),
        request: None,
        request_id: None,
    }
}

/// Keyed with the installation's own secret, so that a copy of the table alone is worth nothing.
fn token_hash(pepper: &hmac::Key, token: &str) -> String {
    hex::encode(hmac::sign(pepper, token.as_bytes()).as_ref())
}

async fn insert(db: &Db, who: &Principal, key: &ApiKey) -> Result<(), OpError> {
    let now = key.created_at;
    let mut tx = db.begin().await?;
    tx.free_expired_api_key_name(&key.name, now).await?;
    tx.insert_api_key(key).await?;
    let details = serde_json::json!({
        "name": key.name,
        "scopes": key.scopes,
        "expires_at": key.expires_at.and_then(|at| Timestamp::from_millisecond(at.0).ok()),
    });
    audit_with(&mut tx, who, "create_api_key", object(key), details, now).await?;
    Ok(tx.commit().await?)
}

/// The names of the scopes, each once.
fn check_scopes(names: &[String]) -> Result<Vec<String>, OpError> {
    if names.is_empty() {
        let all = scope_names();
        let reason = format!("must name at least one scope; the scopes are {all}");
        return Err(OpError::invalid("/scopes", reason));
    }
    let mut scopes = BTreeSet::new();
    for (place, name) in names.iter().enumerate() {
        let scope = Scope::parse(name).ok_or_else(|| {
            let all = scope_names();
            let reason = format!("`{name}` is not a scope; the scopes are {all}");
            OpError::invalid(&format!("/scopes/{place}"), reason)
        })?;
        scopes.insert(scope);
    }
    let names = scopes.into_iter().map(|scope| scope.as_str().to_owned());
    Ok(names.collect())
}

fn scope_names() -> String {
    let names = Scope::ALL
        .iter()
        .map(|scope| format!("`{}`", scope.as_str()));
    names.collect::<Vec<_>>().join(", ")
}

fn check_expiry(expiry: Expiry, now: Millis) -> Result<Option<Millis>, OpError> {
    let (field, at) = match expiry {
        Expiry::Never => return Ok(None),
        Expiry::At(at) => ("/expires_at", at),
        Expiry::In(time) => ("/expires_in", now.plus(time)),
    };
    if at >= now.plus(LIFETIME_MIN) && at <= now.plus(LIFETIME_MAX) {
        return Ok(Some(at));
    }
    let (shortest, longest) = (format_duration(LIFETIME_MIN), format_duration(LIFETIME_MAX));
    let reason = format!("must be between {shortest} and {longest} from now");
    Err(OpError::invalid(field, reason))
}

async fn revoke(db: &Db, who: &Principal, key: &str, now: Millis) -> Result<(), OpError> {
    let admin = Scope::Admin.as_str();
    let mut tx = db.begin().await?;
    // Before it is decided: two requests that each revoke the other's key must not both succeed.
    tx.lock_api_keys_with(admin).await?;
    let found = find(&tx, key).await?;
    let found = found.ok_or_else(|| OpError::not_found("API key", key))?;
    let is_admin = found.scopes.iter().any(|scope| scope == admin);
    if is_admin
        && found.state(now) == ApiKeyState::Active
        && !tx.has_other_api_key(found.id, admin, now).await?
    {
        return Err(OpError::Conflict(format!(
            "`{}` is the last active API key with the scope `{admin}`; create another one before you revoke it",
            found.name
        )));
    }
    if !tx.revoke_api_key(found.id, now).await? {
        return Ok(tx.rollback().await?);
    }
    let details = serde_json::json!({ "name": found.name });
    audit_with(&mut tx, who, "revoke_api_key", object(&found), details, now).await?;
    Ok(tx.commit().await?)
}

async fn find(tx: &Tx, key: &str) -> Result<Option<ApiKey>, OpError> {
    Ok(match key.parse() {
        Ok(id) => tx.api_key(id).await?,
        Err(_) => tx.api_key_by_name(key).await?,
    })
}

fn object(key: &ApiKey) -> String {
    format!("api_key/{}", key.id)
}
