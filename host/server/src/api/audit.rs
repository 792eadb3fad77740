//! `/api/v1/admin/audit`: who did what, to which object. For admins only.

use axum::Json;
use axum::extract::State;
use host_wire::values::{millis, time};
use host_wire::{AuditEntryView, AuditQuery, PageView, PartQuery};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::auth::{Admin, Allowed};
use super::extract::List;
use super::page::page_view;
use super::problem::Problem;
use crate::ops::{AuditEntry, AuditFilter};

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new().routes(routes!(list_audit_entries))
}

/// Lists the committed writes of keys, agents and the host, newest first.
#[utoipa::path(get, path = "/admin/audit", tag = "audit log", params(AuditQuery, PartQuery),
    responses((status = OK, description = "A part of the list", body = PageView<AuditEntryView>)))]
async fn list_audit_entries(
    State(ops): State<Ops>,
    _who: Allowed<Admin>,
    List(query, part): List<AuditQuery>,
) -> Result<Json<PageView<AuditEntryView>>, Problem> {
    let filter = AuditFilter {
        actor: query.actor,
        action: query.action,
        object: query.object,
        since: query.since.map(millis),
        until: query.until.map(millis),
    };
    let entries = ops.audit.list(&filter, &part).await?;
    Ok(Json(page_view(entries, entry_view)))
}

fn entry_view(entry: AuditEntry) -> AuditEntryView {
    AuditEntryView {
        seq: entry.seq,
        at: time(entry.at),
        actor: entry.actor,
        action: entry.action,
        object: entry.object,
        request_id: entry.request_id,
        details: Some(entry.details).filter(|details| !details.is_null()),
    }
}
