//! `chains/{chain}/observation.yaml`: which collectors measure a node, and which policies judge what they bring.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::scalars::{DurationText, SchemaVersion, optional_duration};
use crate::observation::ObservationKind;
use crate::time::duration_text;

/// Collectors and policies of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationConfig {
    /// Version of the file format.
    pub schema_version: SchemaVersion,
    /// The catalogue: what the names mean, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub observations: BTreeMap<String, ObservationMeaning>,
    /// What measures a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collectors: Vec<CollectorUse>,
    /// What judges it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyUse>,
}

/// What an observation's name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationMeaning {
    /// How values relate over time.
    pub kind: ObservationKind,
    /// Unit; empty for flags and labels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// A collector at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectorUse {
    /// Its name within the chain.
    pub name: String,
    /// A plugin of the profile.
    pub plugin: String,
    /// Pause between two runs.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub every: Duration,
    /// Time for one run; the plugin's limit when left out.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub timeout: Option<Duration>,
    /// Configuration for this use, over the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}

/// A policy at work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyUse {
    /// Its name within the chain.
    pub name: String,
    /// A plugin of the profile.
    pub plugin: String,
    /// How far back its columns reach.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub window: Duration,
    /// Pause between two evaluations.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub every: Duration,
    /// How long a verdict must hold before it counts.
    #[serde(rename = "for", default, with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub hold_for: Duration,
    /// Configuration for this use, over the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}
