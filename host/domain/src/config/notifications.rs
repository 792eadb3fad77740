//! `notifications/*.yaml`: who is notified of an incident, by which notifier, how often, and when not.
//!
//! A notifier belongs to no chain, so these files declare their own plugins. The host merges all files of the folder.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::profile::PluginUse;
use super::scalars::{DurationText, Instant, SchemaVersion};
use crate::time::duration_text;

/// One file of `notifications/`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotificationsFile {
    /// Version of the file format.
    pub schema_version: SchemaVersion,
    /// Notifier components.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub plugins: BTreeMap<String, PluginUse>,
    /// Who can receive notifications.
    #[serde(default)]
    pub receivers: Vec<Receiver>,
    /// Which incidents go to whom; every matching route sends.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Incidents that cause no notifications for a time.
    #[serde(default)]
    pub silences: Vec<Silence>,
}

/// All files of `notifications/`, merged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notifications {
    /// Notifier components.
    pub plugins: BTreeMap<String, PluginUse>,
    /// Who can receive notifications.
    pub receivers: Vec<Receiver>,
    /// Which incidents go to whom.
    pub routes: Vec<Route>,
    /// Incidents that cause no notifications for a time.
    pub silences: Vec<Silence>,
}

/// A receiver of notifications: a notifier with its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// A plugin of `plugins`.
    pub plugin: String,
    /// Configuration for this receiver, which overrides the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}

/// Sends matching incidents to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name, which rate limits and delivery attempts refer to.
    pub name: String,
    /// Which incidents match; all when absent.
    #[serde(rename = "match", default)]
    pub matches: LabelMatch,
    /// The receiver.
    pub receiver: String,
    /// How long incidents are collected before the first notification.
    #[serde(default = "default_group_wait", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub group_wait: Duration,
    /// Pause before the notification about an unresolved incident is repeated.
    #[serde(default = "default_repeat_interval", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub repeat_interval: Duration,
    /// The maximum of notifications in a time.
    #[serde(default)]
    pub rate_limit: RateLimit,
}

fn default_group_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_repeat_interval() -> Duration {
    Duration::from_hours(4)
}

/// Which incidents match. An empty list matches everything; a list matches any of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LabelMatch {
    /// Chain ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// Node types.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub node_type: Vec<String>,
    /// Severities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub severity: Vec<SeverityName>,
    /// Categories, such as `node_critical`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub category: Vec<String>,
}

/// The severities, as routes write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SeverityName {
    /// Worth knowing.
    Info,
    /// Needs attention today.
    Warning,
    /// Needs attention now.
    Critical,
}

impl SeverityName {
    /// The name in YAML, in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A token bucket: at most `burst` notifications at once, refilled evenly over `per`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// The number of notifications.
    #[schemars(range(min = 1))]
    pub burst: u32,
    /// The time to refill the bucket.
    #[serde(with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub per: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            burst: 30,
            per: Duration::from_mins(1),
        }
    }
}

/// Suppresses notifications about matching incidents until its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Its name.
    pub name: String,
    /// Which incidents match; all when absent.
    #[serde(rename = "match", default)]
    pub matches: LabelMatch,
    /// When it ends.
    pub until: Instant,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}
