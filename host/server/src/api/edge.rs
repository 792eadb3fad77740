//! What every request passes: its id, its time limit, its log line and metrics, safe headers, and the last form of problems.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use host_wire::Code;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use super::Ops;
use super::limits::{REQUEST_ID_MAX, REQUEST_MAX, WAITING_REQUEST_MAX};
use super::problem::{Problem, RETRY_SOON};

/// Names a request in answers and in the log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The route where a request may wait longer.
const WAITING_ROUTE: &str = "/api/v1/operations/{id}";
/// The id of a request, for whoever records what it does.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Headers that make a browser careful with whatever it gets from here, unless the answer brings its own.
const CAREFUL: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Puts the layers around the routes, the innermost first.
pub(super) fn wrap(routes: Router, ops: &Ops) -> Router {
    routes
        .layer(middleware::from_fn(limit_time))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(ops), finish))
        .layer(CompressionLayer::new())
}

async fn limit_time(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let is_waiting = matched.is_some_and(|path| path.as_str() == WAITING_ROUTE);
    let limit = if is_waiting {
        WAITING_REQUEST_MAX
    } else {
        REQUEST_MAX
    };
    if let Ok(response) = tokio::time::timeout(limit, next.run(request)).await {
        response
    } else {
        let detail = format!(
            "The host did not answer within {} s; try again.",
            limit.as_secs()
        );
        Problem::new(Code::TimedOut, detail)
            .retry_after(RETRY_SOON)
            .into_response()
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no text");
    Problem::internal(anyhow::anyhow!("a handler panicked: {text}")).into_response()
}

async fn finish(
    State(ops): State<Ops>,
    matched: Option<MatchedPath>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = ops.clock.now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = matched.map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        log_cause(&problem, &id);
        let kept = response.headers().get(header::ALLOW).cloned();
        response = problem.render(&id);
        response
            .headers_mut()
            .extend(kept.map(|allow| (header::ALLOW, allow)));
    }
    let headers = response.headers_mut();
    for (name, value) in CAREFUL {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    let took = ops.clock.now().since(began);
    record(&method, route, response.status().as_u16(), took, &id);
    response
}

/// The client's own id if it is harmless in a log, or a new one.
fn request_id(headers: &HeaderMap) -> String {
    let is_plain = |text: &&str| {
        !text.is_empty()
            && text.len() <= REQUEST_ID_MAX
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let given = headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(is_plain);
    given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

fn log_cause(problem: &Problem, id: &str) {
    if let Some(cause) = problem.cause() {
        let code = problem.code().as_str();
        tracing::error!(
            request.id = id,
            problem = code,
            "a request failed: {cause:#}"
        );
    }
}

fn record(method: &Method, route: String, status: u16, took: Duration, id: &str) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    tracing::debug!(
        request.id = id, http.method = %method, http.route = route, http.status = status, duration_ms,
        "request"
    );
    let [method, status] = [method.to_string(), status.to_string()];
    crate::metrics::http_request(method, route, status, took.as_secs_f64());
}

/// An answer with the version of what it shows as its `ETag`.
#[derive(Debug)]
pub(crate) struct Tagged<T> {
    version: i64,
    view: T,
}

impl<T> Tagged<T> {
    pub(crate) fn new(version: i64, view: T) -> Self {
        Self { version, view }
    }
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.view).into_response();
        // Quotes and digits are always a valid header.
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.version)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

pub(super) async fn no_such_route(method: Method, uri: http::Uri) -> Problem {
    let detail = format!(
        "`{method} {}` leads nowhere; /docs lists every path.",
        uri.path()
    );
    Problem::new(Code::NoSuchRoute, detail)
}

pub(super) async fn no_such_method(method: Method, uri: http::Uri) -> Problem {
    let detail = format!(
        "`{}` exists, but not for `{method}`; the header `Allow` lists what it takes.",
        uri.path()
    );
    Problem::new(Code::MethodNotAllowed, detail)
}
