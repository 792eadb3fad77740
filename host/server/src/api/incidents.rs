//! `/api/v1/incidents`: what people are told about.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use host_domain::ids::IncidentId;
use host_domain::incident::Incident;
use host_domain::notification::Notification;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{Allowed, IncidentsRead, IncidentsWrite};
use super::edge::Tagged;
use super::extract::{At, IfMatch, IfMatchHeader, List};
use super::page::{PageView, PartQuery};
use super::problem::Problem;
use super::wire::{
    self, DeliveryState, IncidentEvent, IncidentState, NotificationStatus, Reason, Severity,
    SubjectKind,
};
use crate::app::App;
use crate::ops::{IncidentFilter, IncidentHistoryRow};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_incidents))
        .routes(routes!(get_incident))
        .routes(routes!(acknowledge_incident))
        .routes(routes!(resolve_incident))
}

/// Which incident.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct IncidentPath {
    /// Its id.
    id: Uuid,
}

/// Which incidents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct IncidentsQuery {
    /// One state.
    #[param(inline)]
    state: Option<IncidentState>,
    /// `true`: only what is not resolved.
    unresolved: Option<bool>,
    /// One severity.
    #[param(inline)]
    severity: Option<Severity>,
    /// One category, such as `node_down`.
    category: Option<String>,
    /// The incidents of one node, by its id.
    node: Option<Uuid>,
}

/// Lists incidents, newest first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(IncidentsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<IncidentView>)))]
async fn list_incidents(
    State(app): State<App>,
    _who: Allowed<IncidentsRead>,
    List(query, part): List<IncidentsQuery>,
) -> Result<Json<PageView<IncidentView>>, Problem> {
    let filter = IncidentFilter {
        state: query.state.map(Into::into),
        unresolved: query.unresolved.unwrap_or(false),
        severity: query.severity.map(Into::into),
        category: query.category,
        subject_id: query.node.map(|id| id.to_string()),
    };
    let incidents = app.list_incidents(&filter, &part).await?;
    Ok(Json(PageView::of(incidents, Into::into)))
}

/// Reads an incident with its history and the messages about it.
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents",
    params(IncidentPath),
    responses((status = OK, description = "The incident; its `ETag` is the version for `If-Match`", body = IncidentDetails)))]
async fn get_incident(
    State(app): State<App>,
    _who: Allowed<IncidentsRead>,
    At(id): At<IncidentId>,
) -> Result<Tagged<IncidentDetails>, Problem> {
    let (incident, history, notifications) = app.incident(id).await?;
    let version = incident.version;
    let details = IncidentDetails {
        incident: incident.into(),
        history: history.into_iter().map(Into::into).collect(),
        notifications: notifications.into_iter().map(Into::into).collect(),
    };
    Ok(Tagged::new(version, details))
}

fn tagged(incident: Incident) -> Tagged<IncidentView> {
    Tagged::new(incident.version, incident.into())
}

/// Takes an incident, so that it does not escalate.
#[utoipa::path(post, path = "/incidents/{id}/acknowledge", tag = "incidents",
    params(IncidentPath, IfMatchHeader),
    responses((status = OK, description = "The incident", body = IncidentView)))]
async fn acknowledge_incident(
    State(app): State<App>,
    who: Allowed<IncidentsWrite>,
    At(id): At<IncidentId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<IncidentView>, Problem> {
    let incident = app.acknowledge_incident(&who.0, id, version).await;
    incident.map(tagged).map_err(Into::into)
}

/// Declares an incident to be over.
#[utoipa::path(post, path = "/incidents/{id}/resolve", tag = "incidents",
    params(IncidentPath, IfMatchHeader),
    responses((status = OK, description = "The incident", body = IncidentView)))]
async fn resolve_incident(
    State(app): State<App>,
    who: Allowed<IncidentsWrite>,
    At(id): At<IncidentId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<IncidentView>, Problem> {
    let incident = app.resolve_incident(&who.0, id, version).await;
    incident.map(tagged).map_err(Into::into)
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
            opened_at: wire::time(incident.opened_at),
            updated_at: wire::time(incident.updated_at),
            acknowledged_by: incident.acknowledged_by,
            resolved_at: incident.resolved_at.map(wire::time),
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

impl From<IncidentHistoryRow> for IncidentHistoryView {
    fn from(row: IncidentHistoryRow) -> Self {
        let (event, at) = (row.event.into(), wire::time(row.at));
        Self {
            event,
            actor: row.actor,
            at,
            message: row.message,
        }
    }
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
            due_at: wire::time(notification.due_at),
            finished_at: notification.finished_at.map(wire::time),
        }
    }
}
