//! What machines ask a host: is it alive, is it ready, how does it do, what does it speak.

use std::sync::OnceLock;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::At;
use super::problem::{Code, Problem};
use crate::app::App;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(get_health))
        .routes(routes!(get_readiness))
        .routes(routes!(get_metrics))
        .route("/problems/{code}", axum::routing::get(get_problem_page))
}

/// The process is alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Health)]
pub(crate) struct HealthView {
    /// Always `ok`: a process that can't say so says nothing.
    pub status: String,
    /// The version of the program.
    pub version: String,
}

/// Says that the process is alive.
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = OK, description = "It is", body = HealthView)))]
async fn get_health() -> Json<HealthView> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(HealthView {
        status: "ok".to_owned(),
        version,
    })
}

/// Whether requests can be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Readiness)]
pub struct ReadinessView {
    /// `ready`, or `degraded` when a part is not.
    pub status: String,
    /// Part by part.
    pub components: Vec<ComponentView>,
}

/// How one part does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Component)]
pub struct ComponentView {
    /// The part.
    pub name: String,
    /// Whether it does its work.
    pub is_ready: bool,
    /// What it does, or what is wrong and what to do.
    pub detail: String,
}

/// Says whether requests can be served, part by part.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses(
        (status = OK, description = "Every part that requests need does its work", body = ReadinessView),
        (status = SERVICE_UNAVAILABLE, description = "A part that they need does not", body = ReadinessView),
    ))]
async fn get_readiness(State(app): State<App>) -> (StatusCode, Json<ReadinessView>) {
    let parts = app.readiness().await;
    let is_ready = parts.iter().all(|part| part.is_ready);
    let can_serve = parts.iter().all(|part| part.is_ready || part.is_spare);
    let code = if can_serve {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let status = if is_ready { "ready" } else { "degraded" };
    let components = parts.into_iter().map(|part| ComponentView {
        name: part.part.to_owned(),
        is_ready: part.is_ready,
        detail: part.detail,
    });
    let view = ReadinessView {
        status: status.to_owned(),
        components: components.collect(),
    };
    (code, Json(view))
}

/// Shows the metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "system", security(()),
    responses((status = OK, description = "In Prometheus' text format", content_type = "text/plain", body = String)))]
async fn get_metrics() -> Result<Response, Problem> {
    let recorder = recorder()?;
    recorder.run_upkeep();
    Ok(typed(
        "text/plain; version=0.0.4; charset=utf-8",
        recorder.render(),
    ))
}

/// The one recorder of this process; `metrics` knows no other kind.
pub(super) fn recorder() -> Result<&'static PrometheusHandle, Problem> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let made = RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new().install_recorder().ok()?;
        host_gateway::metrics::describe();
        Some(recorder)
    });
    made.as_ref().ok_or_else(|| {
        Problem::internal(anyhow::anyhow!(
            "another recorder of metrics was installed before"
        ))
    })
}

/// The page of a kind of problem: what `type` in a problem leads to.
async fn get_problem_page(At(code): At<String>) -> Result<Response, Problem> {
    let found = Code::ALL.iter().find(|known| known.as_str() == code);
    let page = found.map(|code| typed("text/markdown; charset=utf-8", code.page().to_owned()));
    page.ok_or_else(|| Problem::new(Code::NotFound, format!("There is no problem `{code}`.")))
}

pub(super) fn typed(media: &'static str, text: String) -> Response {
    let mut response = text.into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
