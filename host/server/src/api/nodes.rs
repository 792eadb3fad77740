//! `/api/v1/nodes`: making, reading and removing nodes.
//!
//! A node is addressed by its id or by its name, because people know names.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use host_domain::node::Node;
use host_domain::operation::Operation;
use host_domain::time::Millis;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{Admin, Allowed, NodesRead, NodesWrite};
use super::edge::Tagged;
use super::extract::{At, Everything, IfMatch, IfMatchHeader, List, Params, Valid};
use super::operations::OperationView;
use super::page::{PageView, PartQuery};
use super::problem::Problem;
use super::wire::{self, NodeState};
use crate::app::App;
use crate::ops::{CreateNode, NodeFilter, Scope};

mod views;

pub use views::{
    CommandView, HealthView, NodeEventView, NodeView, PendingHealth, PlacementView, ProcessView,
    SampleView,
};

/// Points of a series when the client does not say how many.
const SAMPLES_DEFAULT: u32 = 500;
/// Most points of a series.
const SAMPLES_MAX: u32 = 5_000;
/// How far back a series reaches when the client does not say.
const WINDOW_DEFAULT_MS: i64 = 3_600_000;

pub(super) fn routes() -> OpenApiRouter<App> {
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

/// Which nodes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct NodesQuery {
    /// Chain profile id.
    chain: Option<String>,
    /// Infrastructure state.
    #[param(inline)]
    state: Option<NodeState>,
    /// What is shown, such as `critical`.
    display: Option<String>,
    /// Exact name.
    name: Option<String>,
}

/// Lists nodes.
#[utoipa::path(get, path = "/nodes", tag = "nodes", params(NodesQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<NodeView>)))]
async fn list_nodes(
    State(app): State<App>,
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
    let nodes = app.list_nodes(&filter, &part).await?;
    let is_admin = who.0.may(Scope::Admin);
    Ok(Json(PageView::of(nodes, |node| {
        NodeView::of(node, is_admin)
    })))
}

/// What a new node shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateNodeRequest {
    /// Chain profile id, such as `anvil-devnet`.
    pub chain: String,
    /// One of the profile's node types; the only one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// For people, unique among living nodes; made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One of the node type's providers; its first when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// One of the provider's regions; its default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Values of the profile's inputs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// The node, and the operation that works on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeAccepted {
    /// The node.
    pub node_id: uuid::Uuid,
    /// Its name.
    pub name: String,
    /// The operation to wait for.
    pub operation: OperationView,
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
    State(app): State<App>,
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
    let (node, operation) = app.create_node(&who.0, wanted).await?;
    Ok(accepted(node, operation))
}

/// Reads a node.
#[utoipa::path(get, path = "/nodes/{node}", tag = "nodes",
    params(NodePath),
    responses((status = OK, description = "The node; its `ETag` is the version for `If-Match`", body = NodeView)))]
async fn get_node(
    State(app): State<App>,
    who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Tagged<NodeView>, Problem> {
    let found = app.find_node(&node).await?;
    let version = found.node.state_version;
    Ok(Tagged::new(
        version,
        NodeView::of(found, who.0.may(Scope::Admin)),
    ))
}

/// How a node is removed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TerminateQuery {
    /// Whether its keys are copied once more before anything is done to it; it stays as it is when that fails.
    #[serde(default)]
    backup_keys: bool,
}

/// Begins to remove a node.
#[utoipa::path(post, path = "/nodes/{node}/terminate", tag = "nodes",
    params(NodePath, TerminateQuery, IfMatchHeader),
    responses((status = ACCEPTED, description = "Begun; the operation tells how far it is", body = NodeAccepted)))]
async fn terminate_node(
    State(app): State<App>,
    who: Allowed<NodesWrite>,
    At(node): At<String>,
    Params(query): Params<TerminateQuery>,
    IfMatch(version): IfMatch,
) -> Result<Accepted, Problem> {
    let node = app.find_node(&node).await?.node;
    let begun = app.terminate_node(&who.0, node.id, version, query.backup_keys);
    let operation = begun.await?;
    Ok(accepted(node, operation))
}

/// How a node is moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateNodeRequest {
    /// Whether it is moved although its region's breaker is open or it was moved a moment ago.
    #[serde(default)]
    pub force: bool,
}

/// Begins to move a node that is down to another host.
#[utoipa::path(post, path = "/nodes/{node}/migrate", tag = "nodes", request_body = MigrateNodeRequest,
    params(NodePath),
    responses((status = ACCEPTED, description = "Begun; the operation tells how far it is", body = NodeAccepted)))]
async fn migrate_node(
    State(app): State<App>,
    who: Allowed<Admin>,
    At(node): At<String>,
    Valid(wanted): Valid<MigrateNodeRequest>,
) -> Result<Accepted, Problem> {
    let node = app.find_node(&node).await?.node;
    let operation = app.migrate_node(&who.0, node.id, wanted.force).await?;
    Ok(accepted(node, operation))
}

/// Explains why a node's health is what it is.
#[utoipa::path(get, path = "/nodes/{node}/health", tag = "nodes",
    params(NodePath),
    responses((status = OK, description = "Every input of the judgement", body = HealthView)))]
async fn explain_node_health(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
) -> Result<Json<HealthView>, Problem> {
    let node = app.find_node(&node).await?.node;
    Ok(Json(app.node_health(node.id).await?.into()))
}

/// Lists what happened to a node, newest first.
#[utoipa::path(get, path = "/nodes/{node}/events", tag = "nodes",
    params(NodePath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<NodeEventView>)))]
async fn list_node_events(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<NodeEventView>>, Problem> {
    let node = app.find_node(&node).await?.node;
    let events = app.node_events(node.id, &part).await?;
    Ok(Json(PageView::of(events, Into::into)))
}

/// Lists the commands that a node's agent got, newest first.
#[utoipa::path(get, path = "/nodes/{node}/commands", tag = "nodes",
    params(NodePath, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<CommandView>)))]
async fn list_node_commands(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<CommandView>>, Problem> {
    let node = app.find_node(&node).await?.node;
    let commands = app.node_commands(node.id, &part).await?;
    Ok(Json(PageView::of(commands, Into::into)))
}

/// Which values, and from when.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SeriesQuery {
    /// Dotted name, such as `node.height`.
    name: String,
    /// Not before; an hour before `to` when absent.
    from: Option<Timestamp>,
    /// Not after; now when absent.
    to: Option<Timestamp>,
    /// At most so many of the newest values, 1 to 5,000; 500 when absent.
    limit: Option<u32>,
}

/// Reads one of a node's observations over time, oldest first.
#[utoipa::path(get, path = "/nodes/{node}/observations", tag = "nodes",
    params(NodePath, SeriesQuery),
    responses((status = OK, description = "The values", body = Vec<SampleView>)))]
async fn list_node_observations(
    State(app): State<App>,
    _who: Allowed<NodesRead>,
    At(node): At<String>,
    Params(query): Params<SeriesQuery>,
) -> Result<Json<Vec<SampleView>>, Problem> {
    let (from, to, limit) = series_bounds(&query, app.clock.now())?;
    let node = app.find_node(&node).await?.node;
    let samples = app
        .node_observations(node.id, &query.name, from, to, limit)
        .await?;
    Ok(Json(samples.into_iter().map(Into::into).collect()))
}

fn series_bounds(query: &SeriesQuery, now: Millis) -> Result<(Millis, Millis, u32), Problem> {
    let to = query.to.map_or(now, wire::millis);
    let from = query
        .from
        .map_or(Millis(to.0.saturating_sub(WINDOW_DEFAULT_MS)), wire::millis);
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
