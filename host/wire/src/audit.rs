//! The audit log in JSON: who did what, to which object.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Which entries of the audit log.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// One actor: the name of an API key, `host`, or `agent:` and an agent's id.
    pub actor: Option<String>,
    /// One action, such as `terminate_node`.
    pub action: Option<String>,
    /// One object, such as `node/<id>`, or a kind of object, such as `node`.
    pub object: Option<String>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// A write that was committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditEntryView {
    /// Rises with each entry.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who: the name of an API key, `host`, or `agent:` and an agent's id.
    pub actor: String,
    /// What, such as `terminate_node`.
    pub action: String,
    /// To which object, such as `node/<id>`.
    pub object: String,
    /// The API request; `null` where none asked for it. The host's log has the same id.
    pub request_id: Option<String>,
    /// More about the write, never a secret; `null` where there is nothing more to say.
    #[schema(value_type = Option<Object>)]
    pub details: Option<serde_json::Value>,
}
