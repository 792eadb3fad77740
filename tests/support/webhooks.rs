//! A real HTTP listener that keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::Value;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) idempotency_key: Option<String>,
    pub(crate) body: Value,
}

/// Listens until it is dropped.
pub(crate) struct Webhooks {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Webhooks {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's listener has no host to live in"
    )]
    pub(crate) async fn listen() -> Self {
        let received = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/hook", post(keep))
            .with_state(Arc::clone(&received));
        let task = tokio::spawn(async move {
            drop(axum::serve(listener, router).await);
        });
        Self {
            url,
            received,
            task,
        }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The statuses in the order of arrival.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.received()
            .iter()
            .map(|one| one.body["status"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

impl Drop for Webhooks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    State(received): State<Arc<Mutex<Vec<Received>>>>,
    headers: HeaderMap,
    body: axum::Json<Value>,
) {
    let key = headers
        .get("idempotency-key")
        .and_then(|key| key.to_str().ok())
        .map(str::to_owned);
    received.lock().unwrap().push(Received {
        idempotency_key: key,
        body: body.0,
    });
}
