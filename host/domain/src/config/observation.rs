//! `chains/{chain}/observation.yaml`: which collectors measure a node, and which policies judge the observations.

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
    /// The catalogue: the meaning of each observation, for people.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub observations: BTreeMap<String, ObservationMeaning>,
    /// Collectors, which measure a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collectors: Vec<CollectorUse>,
    /// Policies, which judge it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyUse>,
}

/// The meaning of an observation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ObservationMeaning {
    /// How values change over time.
    pub kind: ObservationKind,
    /// Unit; empty for flags and labels.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub summary: String,
}

/// A use of a collector plugin.
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
    /// The time limit of one run; the plugin's limit when absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    #[schemars(with = "Option<DurationText>")]
    pub timeout: Option<Duration>,
    /// Configuration for this use, which overrides the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}

/// A use of a policy plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyUse {
    /// Its name within the chain.
    pub name: String,
    /// A plugin of the profile.
    pub plugin: String,
    /// The time window of its columns.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub window: Duration,
    /// Pause between two evaluations.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub every: Duration,
    /// How long a verdict must hold before it takes effect.
    #[serde(rename = "for", default, with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub hold_for: Duration,
    /// Configuration for this use, which overrides the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}
