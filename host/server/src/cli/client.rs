//! Speaks to the host's public API; nothing here is known to the command line alone.

use std::time::Duration;

use anyhow::Context;
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::connection::Connection;
use super::error::CliError;
use super::sse::{Parser, ServerEvent};
use crate::api::{OperationView, ProblemBody};

/// Until a host takes the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// For a whole answer; longer than the longest wait that the API allows.
const ANSWER_MAX: Duration = Duration::from_mins(1);
/// Parts of a list that one command reads.
const PARTS_MAX: usize = 100;
/// Without even a heartbeat for so long a stream is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The API of one host.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    connection: Connection,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Result<Self, CliError> {
        // No redirects: a key goes to the host that was named and to no other.
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

    /// Every part of a list, as one array.
    pub(crate) async fn list(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Value, CliError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PARTS_MAX {
            let request = self.request(Method::GET, path)?.query(query);
            let request = request.query(&cursor.as_ref().map(|cursor| [("cursor", cursor)]));
            let mut part = self.json(request).await?;
            if let Some(Value::Array(found)) = part.get_mut("items").map(Value::take) {
                items.extend(found);
            }
            cursor = part.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(Value::Array(items))
    }

    /// `POST`, once, also when it has to be sent again.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let key = uuid::Uuid::now_v7().to_string();
        let request = self
            .request(Method::POST, path)?
            .header("idempotency-key", key);
        self.json(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// `PUT`: the same again is the same.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.json(self.request(Method::PUT, path)?.json(body)).await
    }

    /// Waits for an operation's end, and tells about each look at it.
    pub(crate) async fn follow_operation(
        &self,
        id: uuid::Uuid,
        mut seen: impl FnMut(&OperationView),
    ) -> Result<(Value, OperationView), CliError> {
        let path = format!("/api/v1/operations/{id}");
        loop {
            // Short, so that a person sees steps go by.
            let value = self.get(&format!("{path}?wait=1s")).await?;
            let operation: OperationView = typed(value.clone())?;
            seen(&operation);
            if operation.is_over() {
                return Ok((value, operation));
            }
        }
    }

    /// Live events; ends when the host ends it. `after` is the number of the last event that was seen.
    pub(crate) async fn events(
        &self,
        query: &[(&str, String)],
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<ServerEvent, CliError>> + use<>, CliError> {
        let mut request = self.request(Method::GET, "/api/v1/events")?.query(query);
        if let Some(after) = after {
            request = request.header("last-event-id", after);
        }
        let response = self
            .checked(request.timeout(Duration::from_hours(8760)))
            .await?;
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
                        // A broken stream is an ended one: the caller comes again.
                        Err(_) => return None,
                    }
                }
            },
        ))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CliError> {
        let url = self
            .connection
            .host
            .join(path)
            .context("the path of a request is wrong")?;
        let key = self.connection.key.expose_secret();
        Ok(self
            .http
            .request(method, url)
            .bearer_auth(key)
            .timeout(ANSWER_MAX))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, CliError> {
        let response = self.checked(request).await?;
        let bytes = response.bytes().await.context("the answer was cut off")?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        let value = serde_json::from_slice(&bytes)
            .context("the answer is no JSON; is this a Bellwether host?")?;
        Ok(value)
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
        let bytes = response.bytes().await.context("the answer was cut off")?;
        match serde_json::from_slice::<ProblemBody>(&bytes) {
            Ok(problem) => Err(CliError::Problem(Box::new(problem))),
            Err(_) => Err(CliError::Failed(format!(
                "{} answered {status} without saying why; is it a Bellwether host?",
                self.connection.host
            ))),
        }
    }
}

/// The answer as the type that the API documents.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, CliError> {
    let read = serde_json::from_value(value);
    Ok(read.context("the answer has another form than this version expects; use the host's version of this program")?)
}

/// A name or id as one segment of a path.
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
