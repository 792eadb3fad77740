//! Liveness and readiness of a host in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The process is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Health)]
pub struct LivenessView {
    /// Always `ok`: a process that can't say so says nothing.
    pub status: String,
    /// The version of the program.
    pub version: String,
}

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadinessView {
    /// `ready`, or `degraded` when a part is not.
    pub status: String,
    /// Part by part.
    pub components: Vec<ComponentView>,
}

/// How one part does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Component)]
pub struct ComponentView {
    /// The part.
    pub name: String,
    /// Whether it does its work.
    pub is_ready: bool,
    /// What it does, or what is wrong and what to do.
    pub detail: String,
}
