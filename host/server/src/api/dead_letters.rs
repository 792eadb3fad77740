//! `/api/v1/admin/dead-letters`: transitions that could not be handled, for administrators.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use host_domain::ids::EventId;
use host_wire::values::time;
use host_wire::{DeadLetterView, PageView, PartQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed};
use super::extract::{At, Everything, List};
use super::page::page_view;
use super::problem::Problem;
use crate::ops::DeadLetter;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(list_dead_letters))
        .routes(routes!(requeue_dead_letter))
}

/// Lists transitions that were put aside, newest first.
#[utoipa::path(get, path = "/admin/dead-letters", tag = "dead letters", params(PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<DeadLetterView>)))]
async fn list_dead_letters(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    List(Everything {}, part): List<Everything>,
) -> Result<Json<PageView<DeadLetterView>>, Problem> {
    let letters = ops.dead_letters.list(&part).await?;
    Ok(Json(page_view(letters, dead_letter_view)))
}

/// Puts a transition back to be handled, in its place among its node's.
#[utoipa::path(post, path = "/admin/dead-letters/{id}/requeue", tag = "dead letters",
    params(("id" = Uuid, Path, description = "The transition")),
    responses((status = NO_CONTENT, description = "It waits to be handled as if nobody had tried it")))]
async fn requeue_dead_letter(
    State(ops): State<Ops>,
    who: Allowed<Admin>,
    At(id): At<EventId>,
) -> Result<StatusCode, Problem> {
    ops.dead_letters.requeue(&who.0, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn dead_letter_view(letter: DeadLetter) -> DeadLetterView {
    let event = letter.event;
    DeadLetterView {
        id: event.id.0,
        node_id: event.node_id.0,
        node_name: event.node_name,
        dimension: event.dimension.as_str().to_owned(),
        cause: event.cause,
        at: time(event.at),
        attempts: letter.attempts,
        error: letter.error,
        failed_at: time(letter.failed_at),
    }
}
