//! Notifications: which receivers get a message about an incident, in which groups and when.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{IncidentId, NotificationId};
use crate::incident::{Incident, IncidentEvent, Severity};
use crate::text_enum::text_enum;
use crate::time::Millis;

text_enum! {
    /// Whether a notification reports a problem or its end.
    NotificationStatus {
        /// The problem exists.
        Firing = "firing",
        /// The problem is over.
        Resolved = "resolved",
    }
}

text_enum! {
    /// The state of a notification.
    DeliveryState {
        /// Waits for its group or for the next attempt.
        Pending = "pending",
        /// The receiver accepted it.
        Delivered = "delivered",
        /// The host gave up after the last attempt.
        Failed = "failed",
    }
}

/// One message to one receiver about a group of incidents.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// UUID v7; the same in every attempt.
    pub id: NotificationId,
    /// The route that caused it.
    pub route: String,
    /// The receiver.
    pub receiver: String,
    /// The group: incidents of equal labels share messages.
    pub group_key: String,
    /// Problem or end.
    pub status: NotificationStatus,
    /// The incidents of the group.
    pub incident_ids: Vec<IncidentId>,
    /// Its state.
    pub state: DeliveryState,
    /// The earliest time of the next attempt.
    pub due_at: Millis,
    /// The number of attempts so far.
    pub attempts: u32,
    /// The result of the last attempt.
    pub outcome: Option<String>,
    /// When it was created.
    pub created_at: Millis,
    /// When it was delivered or failed.
    pub finished_at: Option<Millis>,
}

/// What a route matches; absent fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Matcher {
    /// Chain profile ids.
    pub chain: Option<Vec<String>>,
    /// Node types.
    pub node_type: Option<Vec<String>>,
    /// Severities.
    pub severity: Option<Vec<Severity>>,
    /// Categories.
    pub category: Option<Vec<String>>,
}

impl Matcher {
    /// Whether an incident matches.
    pub fn accepts(&self, incident: &Incident) -> bool {
        let label = |name: &str, wanted: &Option<Vec<String>>| {
            wanted.as_ref().is_none_or(|wanted| {
                incident
                    .labels
                    .get(name)
                    .is_some_and(|value| wanted.contains(value))
            })
        };
        label("chain", &self.chain)
            && label("node_type", &self.node_type)
            && self
                .severity
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&incident.severity))
            && self
                .category
                .as_ref()
                .is_none_or(|wanted| wanted.contains(&incident.key.category))
    }
}

/// Where matching incidents go.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Unique name.
    pub name: String,
    /// What it matches.
    pub matcher: Matcher,
    /// The receiver.
    pub receiver: String,
    /// Incidents of a group within this time share a notification.
    pub group_wait: Duration,
    /// The pause before a notification about an open incident is repeated.
    pub repeat_interval: Duration,
    /// At most this many notifications at once, and then one per `rate_period` / `rate_burst`.
    pub rate_burst: u32,
    /// The time over which `rate_burst` notifications are allowed.
    pub rate_period: Duration,
}

/// Suppresses notifications about matching incidents until its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// What it matches.
    pub matcher: Matcher,
    /// Its end.
    pub until: Millis,
}

/// A notification that an incident's event requires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedNotification {
    /// The route.
    pub route: String,
    /// The receiver.
    pub receiver: String,
    /// Problem or end.
    pub status: NotificationStatus,
    /// Its group.
    pub group_key: String,
    /// When the group is sent.
    pub due_at: Millis,
}

/// The notifications that an incident's event requires. A silenced incident requires none, but its end does, because
/// its receivers may know of the start.
pub fn plan(
    incident: &Incident,
    event: IncidentEvent,
    routes: &[Route],
    silences: &[Silence],
    now: Millis,
) -> Vec<PlannedNotification> {
    let status = match event {
        IncidentEvent::Opened | IncidentEvent::Reopened | IncidentEvent::Escalated => {
            NotificationStatus::Firing
        }
        IncidentEvent::Resolved => NotificationStatus::Resolved,
        IncidentEvent::Repeated | IncidentEvent::Acknowledged => return Vec::new(),
    };
    let is_silenced = silences
        .iter()
        .any(|silence| now < silence.until && silence.matcher.accepts(incident));
    if is_silenced && status == NotificationStatus::Firing {
        return Vec::new();
    }
    let of_route = |route: &Route| PlannedNotification {
        route: route.name.clone(),
        receiver: route.receiver.clone(),
        status,
        group_key: group_key(incident),
        due_at: now.plus(route.group_wait),
    };
    routes
        .iter()
        .filter(|route| route.matcher.accepts(incident))
        .map(of_route)
        .collect()
}

/// Incidents of one chain and category share a notification.
fn group_key(incident: &Incident) -> String {
    let chain = incident.labels.get("chain").map_or("", String::as_str);
    format!("{chain}/{}", incident.key.category)
}

/// A token bucket: at most `burst` at once, refilled evenly over `period`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenBucket {
    tokens: f64,
    refilled_at: Millis,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(burst: u32, now: Millis) -> Self {
        Self {
            tokens: f64::from(burst),
            refilled_at: now,
        }
    }

    /// Takes one token, or returns when the next one is available.
    pub fn take(&mut self, burst: u32, period: Duration, now: Millis) -> Result<(), Millis> {
        let per_second = f64::from(burst) / period.as_secs_f64().max(0.001);
        let refill = now.since(self.refilled_at).as_secs_f64() * per_second;
        self.tokens = (self.tokens + refill).min(f64::from(burst));
        self.refilled_at = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now.plus(Duration::from_secs_f64((1.0 - self.tokens) / per_second)))
    }
}

/// The pause before the next attempt of a delivery: 1 s, doubled, at most a minute.
pub fn delivery_backoff(attempts: u32) -> Duration {
    Duration::from_secs(1_u64 << attempts.saturating_sub(1).min(6)).min(Duration::from_mins(1))
}

/// The maximum of delivery attempts: a little over half an hour with [`delivery_backoff`].
pub const DELIVERY_ATTEMPTS_MAX: u32 = 36;

/// Labels of an incident about a node.
pub fn node_labels(chain: &str, node_type: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("chain".to_owned(), chain.to_owned()),
        ("node_type".to_owned(), node_type.to_owned()),
    ])
}

#[cfg(test)]
mod tests;
