//! Incidents, their history and their notifications in JSON.

use std::collections::BTreeMap;

use host_domain::incident::Incident;
use host_domain::notification::Notification;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::values::{Reason, time};
use crate::words::{
    DeliveryState, IncidentEvent, IncidentState, NotificationStatus, Severity, SubjectKind,
};

/// Which incidents.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct IncidentsQuery {
    /// One state.
    #[param(inline)]
    pub state: Option<IncidentState>,
    /// `true`: only what is not resolved.
    pub unresolved: Option<bool>,
    /// One severity.
    #[param(inline)]
    pub severity: Option<Severity>,
    /// One category, such as `node_down`.
    pub category: Option<String>,
    /// The incidents of one node, by its id.
    pub node: Option<Uuid>,
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Incident)]
pub struct IncidentView {
    /// UUID v7.
    pub id: Uuid,
    /// What kind of thing it is about.
    pub subject_kind: SubjectKind,
    /// Which one: a node's or a host's id, or a plugin's name.
    pub subject_id: String,
    /// Its name, for people.
    pub subject_name: String,
    /// What happened, such as `node_critical`.
    pub category: String,
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub state: IncidentState,
    /// One line for people.
    pub title: String,
    /// Why.
    pub reasons: Vec<Reason>,
    /// What routes match: `chain`, `node_type`.
    pub labels: BTreeMap<String, String>,
    /// How often its cause was seen.
    pub occurrences: u32,
    /// When it was first opened.
    pub opened_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// Who took it.
    pub acknowledged_by: Option<String>,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Rises with each change; the same as in the `ETag`.
    pub version: i64,
}

impl From<Incident> for IncidentView {
    fn from(incident: Incident) -> Self {
        Self {
            id: incident.id.0,
            subject_kind: incident.key.subject_kind.into(),
            subject_id: incident.key.subject_id,
            subject_name: incident.subject_name,
            category: incident.key.category,
            severity: incident.severity.into(),
            state: incident.state.into(),
            title: incident.title,
            reasons: incident.reasons.into_iter().map(Into::into).collect(),
            labels: incident.labels,
            occurrences: incident.occurrences,
            opened_at: time(incident.opened_at),
            updated_at: time(incident.updated_at),
            acknowledged_by: incident.acknowledged_by,
            resolved_at: incident.resolved_at.map(time),
            version: incident.version,
        }
    }
}

/// An incident, its history and the messages about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentDetails {
    /// The incident.
    #[serde(flatten)]
    pub incident: IncidentView,
    /// What happened to it, oldest first.
    pub history: Vec<IncidentHistoryView>,
    /// Messages about it, oldest first.
    pub notifications: Vec<NotificationView>,
}

/// One line of an incident's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = IncidentHistory)]
pub struct IncidentHistoryView {
    /// What happened.
    pub event: IncidentEvent,
    /// Who or what did it.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// For people.
    pub message: String,
}

/// A message to a receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationView {
    /// UUID v7; the same in every try.
    pub id: Uuid,
    /// The route that asked for it.
    pub route: String,
    /// Who gets it.
    pub receiver: String,
    /// Trouble or its end.
    pub status: NotificationStatus,
    /// Where it stands.
    pub state: DeliveryState,
    /// Tries so far.
    pub attempts: u32,
    /// What the last try brought.
    pub outcome: Option<String>,
    /// Not before this.
    pub due_at: Timestamp,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
}

impl From<Notification> for NotificationView {
    fn from(notification: Notification) -> Self {
        Self {
            id: notification.id.0,
            route: notification.route,
            receiver: notification.receiver,
            status: notification.status.into(),
            state: notification.state.into(),
            attempts: notification.attempts,
            outcome: notification.outcome,
            due_at: time(notification.due_at),
            finished_at: notification.finished_at.map(time),
        }
    }
}
