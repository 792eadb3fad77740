//! What machines ask a host: is it alive, is it ready, how does it do, what does it speak.

use std::sync::OnceLock;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use host_wire::{Code, ComponentView, LivenessView, ReadinessView};
use http::{HeaderValue, StatusCode, header};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Ops;
use super::extract::At;
use super::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Ops> {
    OpenApiRouter::new()
        .routes(routes!(get_health))
        .routes(routes!(get_readiness))
        .routes(routes!(get_metrics))
        .route("/problems/{code}", axum::routing::get(get_problem_page))
}

/// Says that the process is alive.
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = OK, description = "It is", body = LivenessView)))]
async fn get_health() -> Json<LivenessView> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(LivenessView {
        status: "ok".to_owned(),
        version,
    })
}

/// Says whether requests can be served, part by part.
#[utoipa::path(get, path = "/readyz", tag = "system", security(()),
    responses(
        (status = OK, description = "Every part that requests need does its work", body = ReadinessView),
        (status = SERVICE_UNAVAILABLE, description = "A part that they need does not", body = ReadinessView),
    ))]
async fn get_readiness(State(ops): State<Ops>) -> (StatusCode, Json<ReadinessView>) {
    let parts = ops.readiness.check().await;
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
        crate::metrics::describe();
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
    let page = Code::parse(&code)
        .map(|code| typed("text/markdown; charset=utf-8", code.page().to_owned()));
    page.ok_or_else(|| Problem::new(Code::NotFound, format!("There is no problem `{code}`.")))
}

pub(super) fn typed(media: &'static str, text: String) -> Response {
    let mut response = text.into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}
