//! What the API says when it can't do something: RFC 9457, and the one table of codes.
//!
//! Only this file knows status codes. A problem travels as an extension of its response, and the edge renders it with the
//! request's id, so that no handler has to know that id.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ops::OpError;

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:ident $code:literal $title:literal),+ $(,)?) => {
        /// The kinds of problems; each has a page in `docs/problems/`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name),+ }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The last part of the problem's `type`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),+ }
            }

            /// One line for people, the same for every problem of the code.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }

            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            /// The page that explains the code.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../../../docs/problems/", $code, ".md"))),+
                }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedBody = BAD_REQUEST "malformed_body" "The body is not valid JSON",
    /// A field, a parameter or a header can't be used.
    InvalidRequest = BAD_REQUEST "invalid_request" "The request has invalid values",
    /// No key, or one that nobody has.
    Unauthenticated = UNAUTHORIZED "unauthenticated" "The request has no valid API key",
    /// The key lacks the scope.
    MissingScope = FORBIDDEN "missing_scope" "The API key lacks the required scope",
    /// There is no such thing, or it belongs to somebody else.
    NotFound = NOT_FOUND "not_found" "The object was not found",
    /// There is no such path.
    NoSuchRoute = NOT_FOUND "no_such_route" "The path does not exist",
    /// The path exists, the method does not.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed" "The path does not support this method",
    /// The state does not allow it.
    Conflict = CONFLICT "conflict" "The current state does not allow this request",
    /// The key was used with another request.
    IdempotencyMismatch = CONFLICT "idempotency_mismatch" "The idempotency key was used for another request",
    /// The first request with the key is still at work.
    IdempotencyInProgress = CONFLICT "idempotency_in_progress" "The first request with this idempotency key is still running",
    /// Somebody else was faster.
    VersionMismatch = PRECONDITION_FAILED "version_mismatch" "The object has changed since you read it",
    /// The body is too large.
    BodyTooLarge = PAYLOAD_TOO_LARGE "body_too_large" "The body is too large",
    /// The body is not declared as JSON.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The body must be JSON",
    /// A bug or a broken machine.
    Internal = INTERNAL_SERVER_ERROR "internal" "The host failed to process the request",
    /// Something that is needed is away.
    Unavailable = SERVICE_UNAVAILABLE "unavailable" "A service that the host needs is unavailable",
    /// The request took too long.
    TimedOut = SERVICE_UNAVAILABLE "timed_out" "The request took too long",
}

/// What is wrong with one value of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body, such as `/chain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The parameter or header, when the value is not in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong, and what would be right.
    pub detail: String,
}

/// A problem as it is sent (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// The page that explains this kind of problem.
    #[serde(rename = "type")]
    pub kind: String,
    /// One line for people, the same for every problem of the kind.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do next.
    pub detail: String,
    /// The id of the request; the host's log has the rest of the story under it.
    #[serde(default)]
    pub instance: String,
    /// Values of the request that can't be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl ProblemBody {
    /// The code, as in `docs/problems/<code>.md`.
    pub fn code(&self) -> &str {
        self.kind.rsplit('/').next().unwrap_or_default()
    }
}

/// Why a request was not done.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    cause: Option<Arc<anyhow::Error>>,
}

impl Problem {
    /// A problem of a code.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            code,
            detail,
            errors: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// A field of the body can't be used.
    pub(crate) fn field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.into(), detail.into());
        let at = if pointer.is_empty() {
            "the body".to_owned()
        } else {
            format!("`{pointer}`")
        };
        let text = format!("{at}: {detail}");
        let error = FieldError {
            pointer: Some(pointer),
            parameter: None,
            detail,
        };
        Self {
            errors: vec![error],
            ..Self::new(Code::InvalidRequest, text)
        }
    }

    /// A parameter or a header can't be used.
    pub(crate) fn parameter(name: impl Into<String>, detail: impl Into<String>) -> Self {
        let (name, detail) = (name.into(), detail.into());
        let text = format!("parameter `{name}`: {detail}");
        let error = FieldError {
            pointer: None,
            parameter: Some(name),
            detail,
        };
        Self {
            errors: vec![error],
            ..Self::new(Code::InvalidRequest, text)
        }
    }

    /// A bug or a broken machine: the cause is logged, not sent.
    pub(crate) fn internal(cause: anyhow::Error) -> Self {
        let detail = "The host could not do this. Its log tells more under the id in `instance`.";
        Self {
            cause: Some(Arc::new(cause)),
            ..Self::new(Code::Internal, detail)
        }
    }

    /// Tells the client when to come again.
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    /// The code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The full story, for the log only.
    pub(crate) fn cause(&self) -> Option<&anyhow::Error> {
        self.cause.as_deref()
    }

    /// What is sent.
    pub(crate) fn body(&self, instance: &str) -> ProblemBody {
        ProblemBody {
            kind: format!("/problems/{}", self.code.as_str()),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            errors: self.errors.clone(),
        }
    }

    /// The response with the request's id in it.
    pub(crate) fn render(&self, instance: &str) -> Response {
        // A struct of texts and numbers always serialises.
        let body = serde_json::to_vec(&self.body(instance)).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(after.as_secs().max(1)),
            );
        }
        if self.code == Code::Unauthenticated {
            let realm = HeaderValue::from_static("Bearer realm=\"bellwether\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.render("");
        response.extensions_mut().insert(self);
        response
    }
}

/// The only translation of the product's errors into HTTP.
impl From<OpError> for Problem {
    fn from(error: OpError) -> Self {
        let detail = error.to_string();
        match error {
            OpError::NotFound { .. } => Self::new(Code::NotFound, detail),
            OpError::Stale { .. } => Self::new(Code::VersionMismatch, detail),
            OpError::Conflict(_)
            | OpError::IllegalTransition(_)
            | OpError::IllegalIncidentEvent(_)
            | OpError::IllegalSubscriptionEvent(_) => Self::new(Code::Conflict, detail),
            OpError::Invalid { field, reason } if field.starts_with('/') => {
                Self::field(field, reason)
            }
            OpError::Invalid { field, reason } => Self::parameter(field, reason),
            OpError::Unavailable { source, .. } => {
                let problem = Self::new(Code::Unavailable, detail);
                Self {
                    cause: Some(Arc::new(source)),
                    ..problem
                }
                .retry_after(RETRY_SOON)
            }
            OpError::Internal(source) => Self::internal(source),
        }
    }
}

/// When a client shall come again if what is away usually comes back by itself.
pub(crate) const RETRY_SOON: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_page_and_every_page_its_code() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/problems");
        let pages: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let codes: BTreeSet<String> = Code::ALL
            .iter()
            .map(|code| format!("{}.md", code.as_str()))
            .collect();
        assert_eq!(pages, codes);
        for code in Code::ALL {
            let page = code.page();
            let head = format!("# {}: {}", code.status().as_u16(), code.title());
            assert!(
                page.starts_with(&head),
                "{} should begin with `{head}`",
                code.as_str()
            );
            assert!(
                page.contains("## What to do"),
                "{} says what to do",
                code.as_str()
            );
        }
    }

    #[test]
    fn the_cause_of_an_internal_failure_is_not_sent() {
        let problem = Problem::from(OpError::Internal(anyhow::anyhow!("secret path")));
        let body = serde_json::to_string(&problem.body("r")).unwrap();
        assert!(!body.contains("secret path"), "{body}");
        assert!(format!("{:?}", problem.cause()).contains("secret path"));
    }
}
