//! `/api/v1/incidents`: what people are told about.

use axum::Json;
use axum::extract::State;
use host_domain::ids::IncidentId;
use host_domain::incident::Incident;
use host_wire::values::time;
use host_wire::{
    IncidentDetails, IncidentHistoryView, IncidentView, IncidentsQuery, PageView, PartQuery,
};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Ops;
use super::auth::{Allowed, IncidentsRead, IncidentsWrite};
use super::edge::Tagged;
use super::extract::{At, IfMatch, IfMatchHeader, List};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::{IncidentFilter, IncidentHistoryRow};

pub(super) fn routes() -> OpenApiRouter<Ops> {
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

/// Lists incidents, newest first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", params(IncidentsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<IncidentView>)))]
async fn list_incidents(
    State(ops): State<Ops>,
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
    let incidents = ops.incidents.list(&filter, &part).await?;
    Ok(Json(page_view(incidents, Into::into)))
}

/// Reads an incident with its history and the messages about it.
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents",
    params(IncidentPath),
    responses((status = OK, description = "The incident; its `ETag` is the version for `If-Match`", body = IncidentDetails)))]
async fn get_incident(
    State(ops): State<Ops>,
    _who: Allowed<IncidentsRead>,
    At(id): At<IncidentId>,
) -> Result<Tagged<IncidentDetails>, Problem> {
    let (incident, history, notifications) = ops.incidents.get(id).await?;
    let version = incident.version;
    let details = IncidentDetails {
        incident: incident.into(),
        history: history.into_iter().map(history_view).collect(),
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
    State(ops): State<Ops>,
    who: Allowed<IncidentsWrite>,
    At(id): At<IncidentId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<IncidentView>, Problem> {
    let incident = ops.incidents.acknowledge(&who.0, id, version).await;
    incident.map(tagged).map_err(Into::into)
}

/// Declares an incident to be over.
#[utoipa::path(post, path = "/incidents/{id}/resolve", tag = "incidents",
    params(IncidentPath, IfMatchHeader),
    responses((status = OK, description = "The incident", body = IncidentView)))]
async fn resolve_incident(
    State(ops): State<Ops>,
    who: Allowed<IncidentsWrite>,
    At(id): At<IncidentId>,
    IfMatch(version): IfMatch,
) -> Result<Tagged<IncidentView>, Problem> {
    let incident = ops.incidents.resolve(&who.0, id, version).await;
    incident.map(tagged).map_err(Into::into)
}

fn history_view(row: IncidentHistoryRow) -> IncidentHistoryView {
    let (event, at) = (row.event.into(), time(row.at));
    IncidentHistoryView {
        event,
        actor: row.actor,
        at,
        message: row.message,
    }
}
