//! A real HTTP listener that keeps the headers of each request, and repeats all of them in its answer.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;

/// Listens until it is dropped.
pub(crate) struct Echo {
    pub(crate) url: String,
    requests: Requests,
    task: tokio::task::JoinHandle<()>,
}

type Requests = Arc<Mutex<Vec<HeaderMap>>>;

impl Echo {
    pub(crate) async fn listen() -> Self {
        let requests = Requests::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .fallback(repeat)
            .with_state(Arc::clone(&requests));
        let task = tokio::spawn(async move {
            drop(axum::serve(listener, router).await);
        });
        Self {
            url,
            requests,
            task,
        }
    }

    /// Two headers of each request that has both, in the order of arrival.
    pub(crate) fn headers(&self, one: &str, other: &str) -> Vec<(String, String)> {
        let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
        let requests = self.requests.lock().unwrap();
        let pairs = requests
            .iter()
            .filter_map(|headers| Some((headers.get(one)?, headers.get(other)?)));
        pairs.map(|(one, other)| (text(one), text(other))).collect()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Repeats the headers in the body, in a header, and in a redirect to another host when the path is `/moved`.
async fn repeat(
    State(requests): State<Requests>,
    uri: axum::http::Uri,
    headers: HeaderMap,
) -> impl IntoResponse {
    requests.lock().unwrap().push(headers.clone());
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or_default()));
    let all = lines.collect::<Vec<_>>().join(" | ");
    let (status, location) = match uri.path() {
        "/moved" => (StatusCode::FOUND, "http://localhost:1/elsewhere"),
        _ => (StatusCode::OK, ""),
    };
    (
        status,
        [("x-echo", all.clone()), ("location", location.to_owned())],
        all,
    )
}
