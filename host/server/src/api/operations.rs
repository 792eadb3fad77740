//! `/api/v1/operations`: long work, step by step, and waiting for it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use host_domain::ids::{NodeId, OperationId};
use host_domain::operation::{Operation, OperationStep};
use host_domain::time::parse_duration;
use http::HeaderValue;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{Allowed, NodesRead, NodesWrite};
use super::extract::{At, List, Params};
use super::page::{PageView, PartQuery};
use super::problem::Problem;
use super::wire::{self, OperationKind, OperationState, StepState};
use crate::app::App;
use crate::ops::OperationFilter;

/// Longest wait of one request; shorter than the edge's own limit for a request.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_operations))
        .routes(routes!(get_operation))
        .routes(routes!(cancel_operation))
}

/// Where an operation can be read.
pub(super) fn location(id: OperationId) -> HeaderValue {
    // An id has hexadecimal digits and dashes only.
    HeaderValue::try_from(format!("/api/v1/operations/{id}"))
        .unwrap_or_else(|_| HeaderValue::from_static("/api/v1/operations"))
}

/// Which operations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OperationsQuery {
    /// The operations of one node, by its id.
    node: Option<Uuid>,
    /// One state.
    #[param(inline)]
    state: Option<OperationState>,
}

/// Lists operations, newest first.
#[utoipa::path(get, path = "/operations", tag = "operations", params(OperationsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<OperationView>)))]
async fn list_operations(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    List(query, part): List<OperationsQuery>,
) -> Result<Json<PageView<OperationView>>, Problem> {
    let state = query.state.map(Into::into);
    let filter = OperationFilter {
        node: query.node.map(NodeId),
        state,
    };
    let operations = app.list_operations(&filter, &part).await?;
    Ok(Json(PageView::of(operations, Into::into)))
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Answer when the operation is over, or after this time, at most `30s`; at once when absent.
    #[param(example = "30s")]
    wait: Option<String>,
}

/// Reads an operation, and waits for its end if asked to.
#[utoipa::path(get, path = "/operations/{id}", tag = "operations",
    params(("id" = Uuid, Path, description = "The operation"), WaitQuery),
    responses((status = OK, description = "The operation as it is now", body = OperationView)))]
async fn get_operation(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(id): At<OperationId>,
    Params(query): Params<WaitQuery>,
) -> Result<Json<OperationView>, Problem> {
    let wait = query
        .wait
        .as_deref()
        .map_or(Ok(Duration::ZERO), wait_time)?;
    Ok(Json(app.wait_operation(id, wait).await?.into()))
}

fn wait_time(text: &str) -> Result<Duration, Problem> {
    let wait =
        parse_duration(text).map_err(|error| Problem::parameter("wait", error.to_string()))?;
    if wait > WAIT_MAX {
        let detail = format!("`{text}` is too long; wait for at most 30s and ask again");
        return Err(Problem::parameter("wait", detail));
    }
    Ok(wait)
}

/// Asks an operation to stop and to undo what it has done.
#[utoipa::path(post, path = "/operations/{id}/cancel", tag = "operations",
    params(("id" = Uuid, Path, description = "The operation")),
    responses((status = OK, description = "The operation; it is over when everything is undone", body = OperationView)))]
async fn cancel_operation(
    State(app): State<App>,
    who: Allowed<NodesWrite>,
    At(id): At<OperationId>,
) -> Result<Json<OperationView>, Problem> {
    Ok(Json(app.cancel_operation(&who.0, id).await?.into()))
}

/// Long work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationView {
    /// UUID v7.
    pub id: Uuid,
    /// What it does.
    pub kind: OperationKind,
    /// The node that it works on.
    pub node_id: Uuid,
    /// Where it stands.
    pub state: OperationState,
    /// 0 to 1 over all steps.
    pub progress: f64,
    /// Its steps in order.
    pub steps: Vec<StepView>,
    /// What went wrong and what to do next.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl OperationView {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        host_domain::operation::OperationState::from(self.state).is_over()
    }
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        Self {
            progress: operation.progress(),
            id: operation.id.0,
            kind: operation.kind.into(),
            node_id: operation.node_id.0,
            state: operation.state.into(),
            steps: operation.steps.into_iter().map(Into::into).collect(),
            error: operation.error,
            created_at: wire::time(operation.created_at),
            updated_at: wire::time(operation.updated_at),
        }
    }
}

/// One step of an operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Step)]
pub struct StepView {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
    /// What it is doing, or what went wrong.
    pub message: String,
    /// What its programs said, such as a plan; empty when nothing.
    pub output: String,
    /// 0 to 1 within the step, when it can tell.
    pub fraction: Option<f64>,
    /// When it last changed.
    pub at: Option<Timestamp>,
}

impl From<OperationStep> for StepView {
    fn from(step: OperationStep) -> Self {
        Self {
            name: step.name,
            state: step.state.into(),
            message: step.message,
            output: step.output,
            fraction: step.fraction,
            at: step.at.map(wire::time),
        }
    }
}
