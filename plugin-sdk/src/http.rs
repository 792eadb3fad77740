//! HTTP to granted targets: `node:rpc` and other ports of the node, or granted absolute URLs.
//!
//! Requests do not follow redirects: a 3xx is an ordinary response.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::shared::bellwether::host::http as host;
use crate::secrets::Secret;

pub use host::{HttpError as Error, Method};

/// How much of an unexpected response an error contains.
const EXCERPT_CHARS_MAX: usize = 200;

/// A GET request.
pub fn get(url: impl Into<String>) -> Request<'static> {
    request(Method::Get, url)
}

/// A POST request.
pub fn post(url: impl Into<String>) -> Request<'static> {
    request(Method::Post, url)
}

/// A request with any method.
pub fn request(method: Method, url: impl Into<String>) -> Request<'static> {
    Request {
        method,
        url: url.into(),
        headers: Vec::new(),
        body: None,
        timeout: None,
    }
}

/// A request builder; [`send`](Self::send) sends the request.
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request<'a> {
    method: Method,
    url: String,
    headers: Vec<(String, Value<'a>)>,
    body: Option<Vec<u8>>,
    timeout: Option<Duration>,
}

#[derive(Debug)]
enum Value<'a> {
    Plain(String),
    Secret(&'a Secret),
    Bearer(&'a Secret),
    Basic(String, &'a Secret),
}

impl<'a> Request<'a> {
    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Value::Plain(value.into())));
        self
    }

    /// Adds a header with the secret as its value.
    pub fn secret_header<'b>(self, name: impl Into<String>, secret: &'b Secret) -> Request<'b>
    where
        'a: 'b,
    {
        self.with_secret(name.into(), Value::Secret(secret))
    }

    /// Adds a header with `Bearer ` and the secret as its value.
    pub fn bearer_header<'b>(self, name: impl Into<String>, secret: &'b Secret) -> Request<'b>
    where
        'a: 'b,
    {
        self.with_secret(name.into(), Value::Bearer(secret))
    }

    /// Adds a header of basic authentication: `Basic ` and, in base64, the user's name, a colon and the secret's value.
    pub fn basic_header<'b>(
        self,
        name: impl Into<String>,
        user: impl Into<String>,
        password: &'b Secret,
    ) -> Request<'b>
    where
        'a: 'b,
    {
        self.with_secret(name.into(), Value::Basic(user.into(), password))
    }

    fn with_secret<'b>(self, name: String, value: Value<'b>) -> Request<'b>
    where
        'a: 'b,
    {
        let mut request: Request<'b> = self;
        request.headers.push((name, value));
        request
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to a value as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| {
            Failure::other(format!(
                "the request body can't be encoded as JSON: {error}"
            ))
        })?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// Sets the time limit; the plugin's own limit applies as well.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends the request.
    pub fn send(self) -> Result<Response, Error> {
        let headers = self.headers.iter().map(|(name, value)| host::Header {
            name: name.clone(),
            value: match value {
                Value::Plain(text) => host::HeaderValue::Plain(text.clone()),
                Value::Secret(secret) => host::HeaderValue::Secret(secret),
                Value::Bearer(secret) => host::HeaderValue::Bearer(secret),
                Value::Basic(user, password) => host::HeaderValue::Basic(host::BasicCredentials {
                    user: user.clone(),
                    password,
                }),
            },
        });
        let answer = host::send(&host::Request {
            method: self.method,
            url: self.url.clone(),
            headers: headers.collect(),
            body: self.body,
            timeout_ms: self
                .timeout
                .map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        })?;
        Ok(Response {
            url: self.url,
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
        })
    }
}

/// A response of any status.
#[derive(Clone, Debug)]
pub struct Response {
    url: String,
    /// The status code.
    pub status: u16,
    headers: Vec<host::ResponseHeader>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        header.map(|header| header.value.as_str())
    }

    /// Returns the response if its status is 2xx, or else a failure.
    pub fn ok(self) -> Result<Self, Failure> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        Err(Failure::upstream(format!(
            "{} answered with status {}: {}",
            self.url,
            self.status,
            self.excerpt()
        )))
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::upstream(format!(
                "{} did not answer with the expected JSON: {error}; the response starts with: {}",
                self.url,
                self.excerpt()
            ))
        })
    }

    /// The body as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn excerpt(&self) -> String {
        let start = &self.body[..self.body.len().min(4 * EXCERPT_CHARS_MAX)];
        String::from_utf8_lossy(start)
            .chars()
            .take(EXCERPT_CHARS_MAX)
            .collect()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Denied(why) => Self::Denied(why),
            Error::Invalid(why) => Self::Other(format!("the request is invalid: {why}")),
            Error::Unreachable(why) => Self::Upstream(format!("the connection failed: {why}")),
            Error::TimedOut => Self::Upstream("the request timed out".into()),
            Error::TooLarge(limit) => Self::Upstream(format!(
                "the response is larger than the limit of {limit} bytes"
            )),
        }
    }
}
