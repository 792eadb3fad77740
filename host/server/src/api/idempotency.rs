//! `Idempotency-Key`: the first answer to a write is given to its repeats for 24 hours.
//!
//! The use-case takes the key in the transaction of its effect, and the answer is kept here afterwards: a repeat after a crash
//! between the two is told what was done and does it no second time. Answers with secrets (`Cache-Control: no-store`) are not
//! kept, because they must not lie in the database, nor are refusals and failures: they have changed nothing.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use host_wire::Code;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use super::Ops;
use super::extract::read_body;
use super::limits::IDEMPOTENCY_KEY_MAX;
use super::problem::{Problem, RETRY_SOON};
use crate::ops::{Principal, RequestKey, StoredAnswer};

/// Chosen by the client, unique for each thing that it wants done once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(host_wire::IDEMPOTENCY_KEY);
/// Tells that an answer is a repeat.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Requests with a key that are at work in this process; bounded by the connections.
#[derive(Clone, Default)]
pub(super) struct AtWork(Arc<Mutex<HashSet<(String, String)>>>);

/// Frees the key when the request ends, also by a disconnect.
struct Held {
    at_work: AtWork,
    entry: (String, String),
}

impl AtWork {
    fn hold(&self, entry: (String, String)) -> Option<Held> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(entry.clone()).then(|| Held {
            at_work: self.clone(),
            entry,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.at_work
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.entry);
    }
}

/// Answers repeats of writes with the first answer.
pub(super) async fn repeat_answers(
    State((ops, at_work)): State<(Ops, AtWork)>,
    request: Request,
    next: Next,
) -> Response {
    let key = request.headers().get(IDEMPOTENCY_KEY).cloned();
    let who = request.extensions().get::<Principal>().cloned();
    match (key, who) {
        (Some(key), Some(who)) if request.method() == Method::POST => {
            let answered = answer_once(&ops, &at_work, &who, &key, request, next).await;
            answered.unwrap_or_else(IntoResponse::into_response)
        }
        _ => next.run(request).await,
    }
}

async fn answer_once(
    ops: &Ops,
    at_work: &AtWork,
    who: &Principal,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = check_key(key)?;
    let Some(_held) = at_work.hold((who.name.clone(), key.clone())) else {
        let detail =
            "Wait for the answer to the first request, or repeat this one in a few seconds.";
        return Err(Problem::new(Code::IdempotencyInProgress, detail).retry_after(RETRY_SOON));
    };
    let (mut parts, body) = request.into_parts();
    let body = read_body(body).await?;
    let target = parts
        .uri
        .path_and_query()
        .map_or("", http::uri::PathAndQuery::as_str);
    let fingerprint = fingerprint(target, &body);
    let effect = match ops.answers.get(who, &key).await? {
        Some((first, _)) if first != fingerprint => return Err(mismatch()),
        Some((_, StoredAnswer::Answer { status, body })) => return replay(status, body),
        Some((_, StoredAnswer::Effect(effect))) => Some(effect),
        None => None,
    };
    let request = RequestKey {
        key,
        fingerprint,
        effect,
    };
    parts.extensions.insert(Principal {
        request: Some(request.clone()),
        ..who.clone()
    });
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    keep(ops, who, &request, response).await
}

fn check_key(key: &HeaderValue) -> Result<String, Problem> {
    let text = key.to_str().unwrap_or_default();
    if text.is_empty() || text.len() > IDEMPOTENCY_KEY_MAX {
        let detail = format!(
            "has to be 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters; a UUID will do"
        );
        return Err(Problem::parameter("Idempotency-Key", detail));
    }
    Ok(text.to_owned())
}

fn fingerprint(target: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(target.as_bytes());
    hash.update([0]);
    hash.update(body);
    hex::encode(hash.finalize())
}

fn mismatch() -> Problem {
    let detail =
        "Another path or body came with this key before; choose a new key for a new request.";
    Problem::new(Code::IdempotencyMismatch, detail)
}

fn replay(status: u16, body: String) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(status)
        .map_err(|error| Problem::internal(anyhow::Error::new(error)))?;
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

async fn keep(
    ops: &Ops,
    who: &Principal,
    request: &RequestKey,
    response: Response,
) -> Result<Response, Problem> {
    let is_secret = response
        .headers()
        .get(header::CACHE_CONTROL)
        .is_some_and(|value| value.as_bytes() == b"no-store");
    // A refused request has changed nothing; a client that mends it may use its key again.
    if is_secret || !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = read_body(body).await?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = parts.status.as_u16();
    // The work is done: a client is better off with its answer than with an error about the record of it.
    if let Err(error) = ops.answers.store(who, request, status, text).await {
        tracing::error!("an answer could not be kept for repeats: {error:#?}");
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}
