//! `/api/v1/admin/workflows`: what the engine does, for administrators.

use axum::Json;
use axum::extract::State;
use host_wire::values::time;
use host_wire::{
    HistoryView, OperationView, PageView, PartQuery, WorkflowDetailsView, WorkflowState,
    WorkflowView, WorkflowsQuery,
};
use host_workflows::{HistoryEntry, Status, StatusKind};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed};
use super::extract::{At, Everything, List};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::WorkflowDetails;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_workflows))
        .routes(routes!(get_workflow))
        .routes(routes!(list_workflow_history))
        .routes(routes!(retry_workflow))
}

fn workflow_state(state: StatusKind) -> WorkflowState {
    match state {
        StatusKind::Running => WorkflowState::Running,
        StatusKind::Completed => WorkflowState::Completed,
        StatusKind::Failed => WorkflowState::Failed,
    }
}

fn status_kind(state: WorkflowState) -> StatusKind {
    match state {
        WorkflowState::Running => StatusKind::Running,
        WorkflowState::Completed => StatusKind::Completed,
        WorkflowState::Failed => StatusKind::Failed,
    }
}

/// Which workflow.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct WorkflowPath {
    /// Its id, such as `provision-<node id>`.
    id: String,
}

/// Lists workflows in the order of their ids.
#[utoipa::path(get, path = "/admin/workflows", tag = "workflows", params(WorkflowsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<WorkflowView>)))]
async fn list_workflows(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    List(query, part): List<WorkflowsQuery>,
) -> Result<Json<PageView<WorkflowView>>, Problem> {
    let state = query.state.map(status_kind);
    let workflows = ops.workflows.list(state, &part).await?;
    Ok(Json(page_view(workflows, workflow_view)))
}

/// Reads a workflow.
#[utoipa::path(get, path = "/admin/workflows/{id}", tag = "workflows", params(WorkflowPath),
    responses((status = OK, description = "The workflow and its operation", body = WorkflowDetailsView)))]
async fn get_workflow(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    At(id): At<String>,
) -> Result<Json<WorkflowDetailsView>, Problem> {
    Ok(Json(details_view(ops.workflows.get(&id).await?)))
}

/// Lists what happened in a workflow, oldest first.
#[utoipa::path(get, path = "/admin/workflows/{id}/history", tag = "workflows", params(WorkflowPath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<HistoryView>)))]
async fn list_workflow_history(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    At(id): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<HistoryView>>, Problem> {
    let history = ops.workflows.history(&id, &part).await?;
    Ok(Json(page_view(history, history_view)))
}

/// Begins the work of a workflow anew, from what the node is now.
#[utoipa::path(post, path = "/admin/workflows/{id}/retry", tag = "workflows", params(WorkflowPath),
    responses((status = OK, description = "The operation that shows how it goes", body = OperationView)))]
async fn retry_workflow(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<String>,
) -> Result<Json<OperationView>, Problem> {
    Ok(Json(ops.workflows.retry(&who.0, &id).await?.into()))
}

fn workflow_view(status: Status) -> WorkflowView {
    WorkflowView {
        id: status.id,
        kind: status.kind,
        version: status.version,
        state: workflow_state(status.state),
        started_at: time(status.started_at),
        updated_at: time(status.updated_at),
    }
}

fn details_view(details: WorkflowDetails) -> WorkflowDetailsView {
    let operation = details.operation;
    WorkflowDetailsView {
        workflow: workflow_view(details.status),
        node_id: operation.as_ref().map(|operation| operation.node_id.0),
        operation: operation.map(Into::into),
    }
}

fn history_view(entry: HistoryEntry) -> HistoryView {
    HistoryView {
        execution: entry.execution,
        sequence: entry.sequence,
        at: time(entry.at),
        event: entry.event,
        detail: entry.detail,
    }
}
