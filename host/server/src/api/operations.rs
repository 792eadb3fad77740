//! `/api/v1/operations`: long work, step by step, and waiting for it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use host_domain::ids::{NodeId, OperationId};
use host_domain::time::parse_duration;
use host_wire::{OperationView, OperationsQuery, PageView, PartQuery, WaitQuery};
use http::HeaderValue;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Allowed, NodesRead, NodesWrite};
use super::extract::{At, List, Params};
use super::limits::WAIT_MAX;
use super::page::page_view;
use super::problem::Problem;
use crate::ops::OperationFilter;

pub(super) fn routes() -> OpenApiRouter<Ops> {
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

/// Lists operations, newest first.
#[utoipa::path(get, path = "/operations", tag = "operations", params(OperationsQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<OperationView>)))]
async fn list_operations(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    List(query, part): List<OperationsQuery>,
) -> Result<Json<PageView<OperationView>>, Problem> {
    let state = query.state.map(Into::into);
    let filter = OperationFilter {
        node: query.node.map(NodeId),
        state,
    };
    let operations = ops.operations.list(&filter, &part).await?;
    Ok(Json(page_view(operations, Into::into)))
}

/// Reads an operation, and waits for its end if asked to.
#[utoipa::path(get, path = "/operations/{id}", tag = "operations",
    params(("id" = Uuid, Path, description = "The operation"), WaitQuery),
    responses((status = OK, description = "The operation as it is now", body = OperationView)))]
async fn get_operation(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(id): At<OperationId>,
    Params(query): Params<WaitQuery>,
) -> Result<Json<OperationView>, Problem> {
    let wait = query
        .wait
        .as_deref()
        .map_or(Ok(Duration::ZERO), wait_time)?;
    Ok(Json(ops.operations.wait(id, wait).await?.into()))
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
    State(ops): State<Ops>,
    who: Allowed<NodesWrite>,
    At(id): At<OperationId>,
) -> Result<Json<OperationView>, Problem> {
    Ok(Json(ops.operations.cancel(&who.0, id).await?.into()))
}
