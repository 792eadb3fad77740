//! Revisions of plugins and their life cycle.

use serde::{Deserialize, Serialize};

use crate::ids::RevisionId;
use crate::plugin::{Description, Grants, Limits, PluginKind};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// The state of a revision.
    RevisionState {
        /// Found, not validated yet.
        Staged = "staged",
        /// Digest, world, required capabilities and configuration are valid.
        Validated = "validated",
        /// Compiled and tested.
        Ready = "ready",
        /// In use.
        Active = "active",
        /// Replaced by another revision.
        Retired = "retired",
        /// Rejected, with the reason.
        Rejected = "rejected",
        /// Failed when it was loaded again after having been active.
        Broken = "broken",
    }
}

/// Where a plugin is declared: a chain, or the notifications.
pub type PluginScope = String;

/// A component with its configuration, grants and limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// UUID v7.
    pub id: RevisionId,
    /// The chain that declares it, or `notifications`.
    pub scope: PluginScope,
    /// The plugin's name in that scope.
    pub plugin: String,
    /// Its kind; unknown until the plugin is described.
    pub kind: Option<PluginKind>,
    /// Rises by one for each revision of this plugin.
    pub generation: i64,
    /// `sha256:…` of the component.
    pub digest: String,
    /// Its configuration, grants and limits.
    pub terms: RevisionTerms,
    /// What the plugin declares about itself.
    pub description: Option<Description>,
    /// Its state.
    pub state: RevisionState,
    /// Why it was rejected or failed.
    pub reason: Option<String>,
    /// When it was found.
    pub created_at: Millis,
    /// When it became active.
    pub activated_at: Option<Millis>,
}

/// Everything of a revision except the component: a change of any of it is a new revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionTerms {
    /// The plugin's own configuration, as JSON.
    pub config: serde_json::Value,
    /// Its grants.
    pub grants: Grants,
    /// Its limits.
    pub limits: Limits,
}
