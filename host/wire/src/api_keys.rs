//! API keys in JSON: without their tokens, except once.

use host_domain::api_key::ApiKey;
use host_domain::time::Millis;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::values::time;
use crate::words::ApiKeyState;

/// Which API keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiKeysQuery {
    /// One state; all when absent.
    #[param(inline)]
    pub state: Option<ApiKeyState>,
}

/// A new API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// Names the caller in the audit log; no other active key may have it.
    pub name: String,
    /// What the key may do, such as `nodes:read`; `admin` means everything.
    pub scopes: Vec<String>,
    /// When the key expires; without this and `expires_in` it is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The same as a duration from now, such as `90d`; one minute to five years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// A new API key with its token. The host shows the token this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = CreatedApiKey)]
pub struct CreatedApiKeyView {
    /// Send it as `Authorization: Bearer bw_live_…`; the host can't show it again.
    pub token: String,
    /// The key.
    pub api_key: ApiKeyView,
}

/// An API key, without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ApiKey)]
pub struct ApiKeyView {
    /// UUID v7.
    pub id: Uuid,
    /// Names the caller in the audit log.
    pub name: String,
    /// The first characters of the token, by which its owner recognises it.
    pub prefix: String,
    /// What the key may do; `admin` means everything.
    pub scopes: Vec<String>,
    /// Whether the key is valid.
    pub state: ApiKeyState,
    /// When it was created.
    pub created_at: Timestamp,
    /// The name of the key that created it, or `host`.
    pub created_by: String,
    /// When it expires; `null` for a key that is valid until it is revoked.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to about a minute; `null` if it never was.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKeyView {
    /// The key with its state at a time.
    pub fn of(key: ApiKey, now: Millis) -> Self {
        Self {
            state: key.state(now).into(),
            id: key.id.0,
            name: key.name,
            prefix: key.prefix,
            scopes: key.scopes,
            created_at: time(key.created_at),
            created_by: key.created_by,
            expires_at: key.expires_at.map(time),
            last_used_at: key.last_used_at.map(time),
            revoked_at: key.revoked_at.map(time),
        }
    }
}
