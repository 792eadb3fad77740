//! `/api/v1/agents`: who runs beside the nodes. For admins only.

use axum::Json;
use axum::extract::State;
use host_domain::agent::Agent;
use host_domain::ids::AgentId;
use host_wire::values::time;
use host_wire::{AgentView, EnrolmentTokenRequest, EnrolmentTokenView, PageView, PartQuery};
use http::{HeaderName, StatusCode, header};
use secrecy::ExposeSecret;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed};
use super::extract::{At, Everything, List, Valid};
use super::page::page_view;
use super::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_agents))
        .routes(routes!(create_enrolment_token))
        .routes(routes!(revoke_agent))
}

/// Lists agents, oldest first.
#[utoipa::path(get, path = "/agents", tag = "agents", params(PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<AgentView>)))]
async fn list_agents(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<AgentView>>, Problem> {
    let agents = ops.agents.list(&part).await?;
    let view = |agent: Agent| {
        let is_connected = ops.agents.is_connected(agent.id);
        AgentView::of(agent, is_connected)
    };
    Ok(Json(page_view(agents, view)))
}

/// Issues a token by which one agent can enrol, once.
#[utoipa::path(post, path = "/agents/enrolment-tokens", tag = "agents", request_body = EnrolmentTokenRequest,
    responses((status = CREATED, description = "The token; it can't be shown again", body = EnrolmentTokenView)))]
async fn create_enrolment_token(
    State(ops): State<Ops>,
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
    let issued = ops
        .agents
        .issue_enrolment_token(&who.0, &wanted.machine)
        .await?;
    let view = EnrolmentTokenView {
        token: issued.token.expose_secret().to_owned(),
        machine: issued.machine,
        expires_at: time(issued.expires_at),
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
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<AgentId>,
) -> Result<StatusCode, Problem> {
    ops.agents.revoke(&who.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
