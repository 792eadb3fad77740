//! `/api/v1/nodes`: making, reading and removing nodes.
//!
//! A node is addressed by its id or by its name, because people know names.

use axum::Json;
use axum::extract::State;
use host_domain::node::Node;
use host_domain::operation::Operation;
use host_domain::time::Millis;
use host_wire::values::millis;
use host_wire::{
    CommandView, CreateNodeRequest, HealthView, MigrateNodeRequest, NodeAccepted, NodeEventView,
    NodeView, NodesQuery, PageView, PartQuery, SampleView, SeriesQuery, TerminateQuery,
};
use http::{HeaderValue, StatusCode, header};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed, NodesRead, NodesWrite};
use super::edge::Tagged;
use super::extract::{At, Everything, IfMatch, IfMatchHeader, List, Params, Valid};
use super::limits::{SAMPLES_DEFAULT, SAMPLES_MAX, SERIES_WINDOW_DEFAULT_MS};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::{CreateNode, NodeFilter, Scope};

mod views;

use views::{health_view, node_event_view, node_view};

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_nodes, create_node))
        .routes(routes!(get_node))
        .routes(routes!(terminate_node))
        .routes(routes!(migrate_node))
        .routes(routes!(explain_node_health))
        .routes(routes!(list_node_events))
        .routes(routes!(list_node_commands))
        .routes(routes!(list_node_observations))
}

/// Which node.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described; `At` reads it")]
struct NodePath {
    /// Id or name.
    node: String,
}

/// Lists nodes.
#[utoipa::path(get, path = "/nodes", tag = "nodes", params(NodesQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<NodeView>)))]
async fn list_nodes(
    State(ops): State<Ops>,
    who: Allowed<NodesRead>,
    List(query, part): List<NodesQuery>,
) -> Result<Json<PageView<NodeView>>, Problem> {
    let state = query.state.map(Into::into);
    let filter = NodeFilter {
        chain: query.chain,
        state,
        display_state: query.display,
        name: query.name,
        machine_id: None,
    };
    let nodes = ops.nodes.list(&filter, &part).await?;
    let is_admin = who.0.may(Scope::Admin);
    Ok(Json(page_view(nodes, |node| node_view(node, is_admin))))
}

/// 202, where to look, and what was begun.
type Accepted = (
    StatusCode,
    [(header::HeaderName, HeaderValue); 1],
    Json<NodeAccepted>,
);

fn accepted(node: Node, operation: Operation) -> Accepted {
    let location = super::operations::location(operation.id);
    let accepted = NodeAccepted {
        node_id: node.id.0,
        name: node.name,
        operation: operation.into(),
    };
    (
        StatusCode::ACCEPTED,
        [(header::LOCATION, location)],
        Json(accepted),
    )
}

/// Begins to make a node.
#[utoipa::path(post, path = "/nodes", tag = "nodes", request_body = CreateNodeRequest,
    responses((status = ACCEPTED, description = "Begun; the operation tells how far it is", body = NodeAccepted)))]
async fn create_node(
    State(ops): State<Ops>,
    who: Allowed<NodesWrite>,
    Valid(wanted): Valid<CreateNodeRequest>,
) -> Result<Accepted, Problem> {
    let wanted = CreateNode {
        chain: wanted.chain,
        node_type: wanted.node_type.unwrap_or_default(),
        name: wanted.name,
        provider: wanted.provider,
        region: wanted.region,
        inputs: wanted.inputs,
    };
    let (node, operation) = ops.nodes.create(&who.0, wanted).await?;
    Ok(accepted(node, operation))
}

/// Reads a node.
#[utoipa::path(get, path = "/nodes/{node}", tag = "nodes",
    params(NodePath),
    responses((status = OK, description = "The node; its `ETag` is the version for `If-Match`", body = NodeView)))]
async fn get_node(
    State(ops): State<Ops>,
    who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Tagged<NodeView>, Problem> {
    let found = ops.nodes.find_details(&node).await?;
    let version = found.node.state_version;
    Ok(Tagged::new(
        version,
        node_view(found, who.0.may(Scope::Admin)),
    ))
}

/// Begins to remove a node.
#[utoipa::path(post, path = "/nodes/{node}/terminate", tag = "nodes",
    params(NodePath, TerminateQuery, IfMatchHeader),
    responses((status = ACCEPTED, description = "Begun; the operation tells how far it is", body = NodeAccepted)))]
async fn terminate_node(
    State(ops): State<Ops>,
    who: Allowed<NodesWrite>,
    At(node): At<String>,
    Params(query): Params<TerminateQuery>,
    IfMatch(version): IfMatch,
) -> Result<Accepted, Problem> {
    let node = ops.nodes.find(&node).await?;
    let begun = ops
        .nodes
        .terminate(&who.0, node.id, version, query.backup_keys);
    let operation = begun.await?;
    Ok(accepted(node, operation))
}

/// Begins to move a node that is down to another host.
#[utoipa::path(post, path = "/nodes/{node}/migrate", tag = "nodes", request_body = MigrateNodeRequest,
    params(NodePath),
    responses((status = ACCEPTED, description = "Begun; the operation tells how far it is", body = NodeAccepted)))]
async fn migrate_node(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(node): At<String>,
    Valid(wanted): Valid<MigrateNodeRequest>,
) -> Result<Accepted, Problem> {
    let node = ops.nodes.find(&node).await?;
    let operation = ops.migrations.start(&who.0, node.id, wanted.force).await?;
    Ok(accepted(node, operation))
}

/// Explains why a node's health is what it is.
#[utoipa::path(get, path = "/nodes/{node}/health", tag = "nodes",
    params(NodePath),
    responses((status = OK, description = "Every input of the judgement", body = HealthView)))]
async fn explain_node_health(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Json<HealthView>, Problem> {
    let node = ops.nodes.find(&node).await?;
    Ok(Json(health_view(ops.nodes.health(node).await?)))
}

/// Lists what happened to a node, newest first.
#[utoipa::path(get, path = "/nodes/{node}/events", tag = "nodes",
    params(NodePath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<NodeEventView>)))]
async fn list_node_events(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<NodeEventView>>, Problem> {
    let node = ops.nodes.find(&node).await?;
    let events = ops.nodes.events(node.id, &part).await?;
    Ok(Json(page_view(events, node_event_view)))
}

/// Lists the commands that a node's agent got, newest first.
#[utoipa::path(get, path = "/nodes/{node}/commands", tag = "nodes",
    params(NodePath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<CommandView>)))]
async fn list_node_commands(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<CommandView>>, Problem> {
    let node = ops.nodes.find(&node).await?;
    let commands = ops.nodes.commands(node.id, &part).await?;
    Ok(Json(page_view(commands, Into::into)))
}

/// Reads one of a node's observations over time, oldest first.
#[utoipa::path(get, path = "/nodes/{node}/observations", tag = "nodes",
    params(NodePath, SeriesQuery),
    responses((status = OK, description = "The values", body = Vec<SampleView>)))]
async fn list_node_observations(
    State(ops): State<Ops>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    Params(query): Params<SeriesQuery>,
) -> Result<Json<Vec<SampleView>>, Problem> {
    let (from, to, limit) = series_bounds(&query, ops.clock.now())?;
    let node = ops.nodes.find(&node).await?;
    let samples = ops
        .nodes
        .observations(node.id, &query.name, from, to, limit)
        .await?;
    Ok(Json(samples.into_iter().map(Into::into).collect()))
}

fn series_bounds(query: &SeriesQuery, now: Millis) -> Result<(Millis, Millis, u32), Problem> {
    let to = query.to.map_or(now, millis);
    let from = query.from.map_or(
        Millis(to.0.saturating_sub(SERIES_WINDOW_DEFAULT_MS)),
        millis,
    );
    if from > to {
        return Err(Problem::parameter("from", "lies after `to`; swap them"));
    }
    let limit = query.limit.unwrap_or(SAMPLES_DEFAULT);
    if limit == 0 || limit > SAMPLES_MAX {
        let detail = format!("`{limit}` is out of range; ask for 1 to {SAMPLES_MAX} values");
        return Err(Problem::parameter("limit", detail));
    }
    Ok((from, to, limit))
}
