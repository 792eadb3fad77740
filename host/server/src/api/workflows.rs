//! `/api/v1/admin/workflows`: what the engine does, for administrators.

use axum::Json;
use axum::extract::State;
use host_workflows::{HistoryEntry, Status, StatusKind};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{Admin, Allowed};
use super::extract::{At, Everything, List};
use super::operations::OperationView;
use super::page::{PageView, PartQuery};
use super::problem::Problem;
use super::wire;
use crate::app::App;
use crate::ops::WorkflowDetails;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_workflows))
        .routes(routes!(get_workflow))
        .routes(routes!(list_workflow_history))
        .routes(routes!(retry_workflow))
}

/// Where a workflow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowState {
    /// At work.
    Running,
    /// Ended well.
    Completed,
    /// Ended with a failure.
    Failed,
}

impl From<StatusKind> for WorkflowState {
    fn from(state: StatusKind) -> Self {
        match state {
            StatusKind::Running => Self::Running,
            StatusKind::Completed => Self::Completed,
            StatusKind::Failed => Self::Failed,
        }
    }
}

impl From<WorkflowState> for StatusKind {
    fn from(state: WorkflowState) -> Self {
        match state {
            WorkflowState::Running => Self::Running,
            WorkflowState::Completed => Self::Completed,
            WorkflowState::Failed => Self::Failed,
        }
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

/// Which workflows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WorkflowsQuery {
    /// One state.
    #[param(inline)]
    state: Option<WorkflowState>,
}

/// Lists workflows in the order of their ids.
#[utoipa::path(get, path = "/admin/workflows", tag = "workflows", params(WorkflowsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<WorkflowView>)))]
async fn list_workflows(
    State(app): State<App>,
    _who: Allowed<Admin>,
    List(query, part): List<WorkflowsQuery>,
) -> Result<Json<PageView<WorkflowView>>, Problem> {
    let state = query.state.map(Into::into);
    let workflows = app.list_workflows(state, &part).await?;
    Ok(Json(PageView::of(workflows, Into::into)))
}

/// Reads a workflow.
#[utoipa::path(get, path = "/admin/workflows/{id}", tag = "workflows", params(WorkflowPath),
    responses((status = OK, description = "The workflow and its operation", body = WorkflowDetailsView)))]
async fn get_workflow(
    State(app): State<App>,
    _who: Allowed<Admin>,
    At(id): At<String>,
) -> Result<Json<WorkflowDetailsView>, Problem> {
    Ok(Json(app.workflow(&id).await?.into()))
}

/// Lists what happened in a workflow, oldest first.
#[utoipa::path(get, path = "/admin/workflows/{id}/history", tag = "workflows", params(WorkflowPath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<HistoryView>)))]
async fn list_workflow_history(
    State(app): State<App>,
    _who: Allowed<Admin>,
    At(id): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<HistoryView>>, Problem> {
    let history = app.workflow_history(&id, &part).await?;
    Ok(Json(PageView::of(history, Into::into)))
}

/// Begins the work of a workflow anew, from what the node is now.
#[utoipa::path(post, path = "/admin/workflows/{id}/retry", tag = "workflows", params(WorkflowPath),
    responses((status = OK, description = "The operation that shows how it goes", body = OperationView)))]
async fn retry_workflow(
    State(app): State<App>,
    who: Allowed<Admin>,
    At(id): At<String>,
) -> Result<Json<OperationView>, Problem> {
    Ok(Json(app.retry_workflow(&who.0, &id).await?.into()))
}

/// A workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Workflow)]
pub struct WorkflowView {
    /// Its id.
    pub id: String,
    /// What it does, such as `migrate-node`.
    pub kind: String,
    /// The version of its code.
    pub version: String,
    /// Where it stands.
    pub state: WorkflowState,
    /// When it was started.
    pub started_at: Timestamp,
    /// When anything last happened in it.
    pub updated_at: Timestamp,
}

impl From<Status> for WorkflowView {
    fn from(status: Status) -> Self {
        Self {
            id: status.id,
            kind: status.kind,
            version: status.version,
            state: status.state.into(),
            started_at: wire::time(status.started_at),
            updated_at: wire::time(status.updated_at),
        }
    }
}

/// A workflow, and what it works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = WorkflowDetails)]
pub struct WorkflowDetailsView {
    /// The workflow.
    pub workflow: WorkflowView,
    /// The node that it works on.
    pub node_id: Option<Uuid>,
    /// The operation that shows how far it is.
    pub operation: Option<OperationView>,
}

impl From<WorkflowDetails> for WorkflowDetailsView {
    fn from(details: WorkflowDetails) -> Self {
        let operation = details.operation;
        Self {
            workflow: details.status.into(),
            node_id: operation.as_ref().map(|operation| operation.node_id.0),
            operation: operation.map(Into::into),
        }
    }
}

/// One thing that happened in a workflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = HistoryEntry)]
pub struct HistoryView {
    /// The execution in which it happened, from 1.
    pub execution: u64,
    /// Its place in that execution.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What, in the engine's words, such as `ActivityScheduled`.
    pub event: String,
    /// The details, as the engine keeps them.
    pub detail: String,
}

impl From<HistoryEntry> for HistoryView {
    fn from(entry: HistoryEntry) -> Self {
        Self {
            execution: entry.execution,
            sequence: entry.sequence,
            at: wire::time(entry.at),
            event: entry.event,
            detail: entry.detail,
        }
    }
}
