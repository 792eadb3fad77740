//! Plugins and their revisions in JSON.

use host_domain::revision::Revision;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::values::time;
use crate::words::{PluginKind, RevisionState};

/// A plugin, its revisions and how the active one does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Plugin)]
pub struct PluginView {
    /// The chain that declares it, or `notifications`.
    pub scope: String,
    /// Its name there.
    pub plugin: String,
    /// The revision in use.
    pub active: Option<RevisionView>,
    /// Up to ten revisions, newest first.
    pub revisions: Vec<RevisionView>,
    /// Calls since the process loaded it.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Mean time of a call.
    pub mean_ms: f64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether it is kept from being called because it failed too often.
    pub is_open: bool,
}

/// A revision: one component with one configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Revision)]
pub struct RevisionView {
    /// UUID v7.
    pub id: Uuid,
    /// Rises by one for each revision of the plugin.
    pub generation: i64,
    /// What it does; unknown until it was described.
    pub kind: Option<PluginKind>,
    /// Digest of the component.
    pub digest: String,
    /// The version that the component says it has.
    pub version: Option<String>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it was rejected or broke.
    pub reason: Option<String>,
    /// When it was staged.
    pub created_at: Timestamp,
    /// When it came into use.
    pub activated_at: Option<Timestamp>,
}

impl From<Revision> for RevisionView {
    fn from(revision: Revision) -> Self {
        Self {
            id: revision.id.0,
            generation: revision.generation,
            kind: revision.kind.map(Into::into),
            digest: revision.digest,
            version: revision.description.map(|description| description.version),
            state: revision.state.into(),
            reason: revision.reason,
            created_at: time(revision.created_at),
            activated_at: revision.activated_at.map(time),
        }
    }
}
