//! The HTTP client of a host's public API.

use std::time::Duration;

use anyhow::Context;
use futures_util::{Stream, StreamExt, stream};
use host_wire::{
    EventsQuery, IDEMPOTENCY_KEY, LAST_EVENT_ID, OperationView, PageView, PartQuery, ProblemBody,
    WaitQuery,
};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Connection;
use super::error::CliError;
use super::sse::{Parser, ServerEvent};

/// Longest wait until a host accepts the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a whole answer; longer than the longest wait that the API allows.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// Pages of a list that one command reads.
const PAGES_MAX: usize = 100;
/// A stream without even a heartbeat for this long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// Life of one stream.
const STREAM_MAX: Duration = Duration::from_hours(8760);
/// How long the host holds one request for an operation. Short, so that a person sees the steps.
const WAIT: &str = "1s";

/// The API of one host.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    connection: Connection,
}

/// A list without filters.
#[derive(Serialize)]
pub(crate) struct NoFilter {}

impl Client {
    pub(crate) fn new(connection: Connection) -> Result<Self, CliError> {
        // No redirects: a key goes to the host that it is for and to no other.
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("the HTTP client can't start")?;
        Ok(Self { http, connection })
    }

    /// `GET` of one object.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.json(self.request(Method::GET, path)?).await
    }

    /// Every page of a list, as one array.
    pub(crate) async fn list(
        &self,
        path: &str,
        filter: &impl Serialize,
    ) -> Result<Value, CliError> {
        let mut items = Vec::new();
        let mut page = PartQuery::default();
        for _ in 0..PAGES_MAX {
            let request = self.request(Method::GET, path)?.query(filter).query(&page);
            let mut read: PageView<Value> = typed(self.json(request).await?)?;
            items.append(&mut read.items);
            page.cursor = read.next;
            if page.cursor.is_none() {
                break;
            }
        }
        Ok(Value::Array(items))
    }

    /// `POST` with a body. The host executes it once, also when the request is sent again.
    pub(crate) async fn post(&self, path: &str, body: &impl Serialize) -> Result<Value, CliError> {
        self.json(self.post_request(path)?.json(body)).await
    }

    /// `POST` without a body.
    pub(crate) async fn post_empty(&self, path: &str) -> Result<Value, CliError> {
        self.json(self.post_request(path)?).await
    }

    /// `POST` without a body, with parameters.
    pub(crate) async fn post_query(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<Value, CliError> {
        self.json(self.post_request(path)?.query(query)).await
    }

    /// `PUT`, which has the same effect when it is repeated.
    pub(crate) async fn put(&self, path: &str, body: &impl Serialize) -> Result<Value, CliError> {
        self.json(self.request(Method::PUT, path)?.json(body)).await
    }

    /// Waits for the end of an operation and shows each answer on the way to `seen`.
    pub(crate) async fn follow_operation(
        &self,
        id: uuid::Uuid,
        mut seen: impl FnMut(&OperationView),
    ) -> Result<(Value, OperationView), CliError> {
        let path = format!("/api/v1/operations/{id}");
        let wait = WaitQuery {
            wait: Some(WAIT.to_owned()),
        };
        loop {
            let request = self.request(Method::GET, &path)?.query(&wait);
            let value = self.json(request).await?;
            let operation: OperationView = typed(value.clone())?;
            seen(&operation);
            if operation.is_over() {
                return Ok((value, operation));
            }
        }
    }

    /// Live events until the stream ends. `after` is the number of the last event that the caller has.
    pub(crate) async fn events(
        &self,
        query: &EventsQuery,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<ServerEvent, CliError>> + use<>, CliError> {
        let mut request = self.request(Method::GET, "/api/v1/events")?.query(query);
        if let Some(after) = after {
            request = request.header(LAST_EVENT_ID, after);
        }
        let response = self.checked(request.timeout(STREAM_MAX)).await?;
        let bytes = response.bytes_stream().boxed();
        Ok(stream::unfold(
            (bytes, Parser::default()),
            |(mut bytes, mut parser)| async move {
                loop {
                    if let Some(event) = parser.next_event() {
                        return Some((Ok(event), (bytes, parser)));
                    }
                    let read = tokio::time::timeout(SILENCE_MAX, bytes.next()).await.ok()?;
                    match read? {
                        Ok(chunk) => parser.push(&chunk),
                        // The caller connects again, as after any other end.
                        Err(_) => return None,
                    }
                }
            },
        ))
    }

    fn post_request(&self, path: &str) -> Result<RequestBuilder, CliError> {
        let key = uuid::Uuid::now_v7().to_string();
        let request = self.request(Method::POST, path)?;
        Ok(request.header(IDEMPOTENCY_KEY, key))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CliError> {
        let url = self.connection.host.join(path);
        let url = url.with_context(|| format!("`{path}` is not a path of a URL"))?;
        let key = self.connection.key.expose_secret();
        let request = self.http.request(method, url);
        Ok(request.bearer_auth(key).timeout(ANSWER_MAX))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = self.checked(request).await?;
        let bytes = self.body(response).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let value = serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} answered without JSON; is it a Bellwether host?",
                self.connection.host
            )
        })?;
        Ok(value)
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, CliError> {
        let bytes = response.bytes().await.map_err(reqwest::Error::without_url);
        let bytes =
            bytes.with_context(|| format!("the answer of {} broke off", self.connection.host))?;
        Ok(bytes.into())
    }

    async fn checked(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request
            .send()
            .await
            .map_err(|source| CliError::Unreachable {
                url: self.connection.host.to_string(),
                source: source.without_url(),
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = self.body(response).await?;
        match serde_json::from_slice::<ProblemBody>(&bytes) {
            Ok(problem) => Err(CliError::Problem(Box::new(problem))),
            Err(_) => Err(CliError::Failed(format!(
                "{} answered {status} without a reason; is it a Bellwether host?",
                self.connection.host
            ))),
        }
    }
}

/// The answer as the type that the API documents.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    let read = serde_json::from_value(value);
    Ok(read.context(
        "the answer has a form that this version does not know; use the `bellwether` of the host's version",
    )?)
}

/// A name or an id as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = text.bytes().map(|byte| {
        if is_plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}
