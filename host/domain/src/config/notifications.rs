//! `notifications/*.yaml`: who is told of an incident, through which notifier, how often, and when not.
//!
//! A notifier belongs to no chain, so these files declare their own plugins. All files of the folder are one whole.

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
    /// Whom a message can go to.
    #[serde(default)]
    pub receivers: Vec<Receiver>,
    /// Which incidents go to whom; every route that matches sends.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// Incidents that nobody is told of for a time.
    #[serde(default)]
    pub silences: Vec<Silence>,
}

/// All of `notifications/` together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notifications {
    /// Notifier components.
    pub plugins: BTreeMap<String, PluginUse>,
    /// Whom a message can go to.
    pub receivers: Vec<Receiver>,
    /// Which incidents go to whom.
    pub routes: Vec<Route>,
    /// Incidents that nobody is told of for a time.
    pub silences: Vec<Silence>,
}

/// Whom a message can go to: a notifier with its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// A plugin of `plugins`.
    pub plugin: String,
    /// Configuration for this receiver, over the plugin's `config`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
}

/// Sends incidents that match to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name; rate limits and attempts are kept under it.
    pub name: String,
    /// What an incident must be; everything when left out.
    #[serde(rename = "match", default)]
    pub matches: LabelMatch,
    /// To whom.
    pub receiver: String,
    /// How long incidents are gathered before the first message.
    #[serde(default = "default_group_wait", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub group_wait: Duration,
    /// Pause before an unresolved incident is sent again.
    #[serde(default = "default_repeat_interval", with = "duration_text")]
    #[schemars(with = "DurationText")]
    pub repeat_interval: Duration,
    /// The most messages in a time.
    #[serde(default)]
    pub rate_limit: RateLimit,
}

fn default_group_wait() -> Duration {
    Duration::from_secs(30)
}

fn default_repeat_interval() -> Duration {
    Duration::from_hours(4)
}

/// What an incident must be. An empty list matches everything; a list matches any of its entries.
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

/// The severities, as routes name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum SeverityName {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
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

/// A token bucket: at most `burst` messages at once, filled again evenly over `per`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Messages.
    #[schemars(range(min = 1))]
    pub burst: u32,
    /// Time.
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

/// Keeps incidents that match quiet until its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Its name.
    pub name: String,
    /// What an incident must be.
    #[serde(rename = "match", default)]
    pub matches: LabelMatch,
    /// When it ends; every silence does.
    pub until: Instant,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}
