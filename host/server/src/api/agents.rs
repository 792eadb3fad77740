//! `/api/v1/agents`: who runs beside the nodes. For admins only.

use axum::Json;
use axum::extract::State;
use host_domain::agent::Agent;
use host_domain::ids::AgentId;
use http::{HeaderName, StatusCode, header};
use jiff::Timestamp;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{Admin, Allowed};
use super::extract::{At, Everything, List, Valid};
use super::page::{PageView, PartQuery};
use super::problem::Problem;
use super::wire;
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(create_enrolment_token))
        .routes(routes!(revoke_agent))
}

/// Lists agents, oldest first.
#[utoipa::path(get, path = "/agents", tag = "agents", params(PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<AgentView>)))]
async fn list_agents(
    State(app): State<App>,
    _who: Allowed<Admin>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<AgentView>>, Problem> {
    let agents = app.list_agents(&part).await?;
    let view = |agent: Agent| {
        let is_connected = app.is_connected(agent.id);
        AgentView::of(agent, is_connected)
    };
    Ok(Json(PageView::of(agents, view)))
}

/// Whom the token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentTokenRequest {
    /// Name of the machine; it is recorded if it is new.
    pub machine: String,
}

/// A one-time token, shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnrolmentTokenView {
    /// The token; it can't be shown again.
    pub token: String,
    /// The machine that it is for.
    pub machine: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Issues a token by which one agent can enrol, once.
#[utoipa::path(post, path = "/agents/enrolment-tokens", tag = "agents", request_body = EnrolmentTokenRequest,
    responses((status = CREATED, description = "The token; it can't be shown again", body = EnrolmentTokenView)))]
async fn create_enrolment_token(
    State(app): State<App>,
    who: Allowed<Admin>,
    Valid(wanted): Valid<EnrolmentTokenRequest>,
) -> Result<
    (
        StatusCode,
        [(HeaderName, &'static str); 1],
        Json<EnrolmentTokenView>,
    ),
    Problem,
> {
    let issued = app.issue_enrolment_token(&who.0, &wanted.machine).await?;
    let view = EnrolmentTokenView {
        token: issued.token.expose_secret().to_owned(),
        machine: issued.machine,
        expires_at: wire::time(issued.expires_at),
    };
    // Also keeps it out of the answers that are kept for repeats.
    Ok((
        StatusCode::CREATED,
        [(header::CACHE_CONTROL, "no-store")],
        Json(view),
    ))
}

/// Cuts an agent off for good.
#[utoipa::path(post, path = "/agents/{id}/revoke", tag = "agents",
    params(("id" = Uuid, Path, description = "The agent")),
    responses((status = NO_CONTENT, description = "Its stream is closed and its certificate is worth nothing")))]
async fn revoke_agent(
    State(app): State<App>,
    who: Allowed<Admin>,
    At(id): At<AgentId>,
) -> Result<StatusCode, Problem> {
    app.revoke_agent(&who.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Agent)]
pub struct AgentView {
    /// The subject of its certificate.
    pub id: Uuid,
    /// The machine that it runs on.
    pub machine_id: Uuid,
    /// For people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether its stream is open.
    pub is_connected: bool,
    /// When its certificate ends.
    pub certificate_not_after: Timestamp,
    /// When it was last heard of.
    pub last_seen_at: Option<Timestamp>,
    /// When it was cut off for good.
    pub revoked_at: Option<Timestamp>,
    /// When it enrolled.
    pub created_at: Timestamp,
}

impl AgentView {
    fn of(agent: Agent, is_connected: bool) -> Self {
        Self {
            id: agent.id.0,
            machine_id: agent.machine_id.0,
            name: agent.name,
            version: agent.version,
            is_connected,
            certificate_not_after: wire::time(agent.certificate_not_after),
            last_seen_at: agent.last_seen_at.map(wire::time),
            revoked_at: agent.revoked_at.map(wire::time),
            created_at: wire::time(agent.created_at),
        }
    }
}
