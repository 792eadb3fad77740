//! Revisions of plugins and how one takes over from another (design: plugins.md, Revisions and hot reload).

use serde::{Deserialize, Serialize};

use crate::ids::RevisionId;
use crate::plugin::{Description, Grants, Limits, PluginKind};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// Where a revision stands.
    RevisionState {
        /// Seen, not looked into.
        Staged = "staged",
        /// Digest, world, wants and configuration are right.
        Validated = "validated",
        /// Compiled and tried.
        Ready = "ready",
        /// In use.
        Active = "active",
        /// Was in use.
        Retired = "retired",
        /// Can't be used, with the reason.
        Rejected = "rejected",
        /// Was in use and broke when it was loaded again.
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
    /// What it does; unknown until it is described.
    pub kind: Option<PluginKind>,
    /// Rises by one for each revision of this plugin.
    pub generation: i64,
    /// `sha256:…` of the component.
    pub digest: String,
    /// What it may touch and what bounds it.
    pub terms: RevisionTerms,
    /// What it says about itself.
    pub description: Option<Description>,
    /// Where it stands.
    pub state: RevisionState,
    /// Why it was rejected or broke.
    pub reason: Option<String>,
    /// When it was staged.
    pub created_at: Millis,
    /// When it came into use.
    pub activated_at: Option<Millis>,
}

/// Everything of a revision but the component: a change of any of it is a new revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisionTerms {
    /// The plugin's own configuration, as JSON.
    pub config: serde_json::Value,
    /// What it may touch.
    pub grants: Grants,
    /// What bounds it.
    pub limits: Limits,
}
