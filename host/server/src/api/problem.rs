//! What the API answers when it can't do what a request asks for: RFC 9457, with the codes of [`host_wire::Code`].
//!
//! A problem travels as an extension of its response, and the edge renders it with the
//! request's id, so that no handler has to know that id.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use host_wire::{Code, FieldError, PROBLEM_JSON, ProblemBody};
use http::{HeaderValue, StatusCode, header};

use crate::ops::OpError;

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
            status: self.code.status(),
            detail: self.detail.clone(),
            instance: instance.to_owned(),
            errors: self.errors.clone(),
        }
    }

    /// The response with the request's id in it.
    pub(crate) fn render(&self, instance: &str) -> Response {
        // A struct of texts and numbers always serialises.
        let body = serde_json::to_vec(&self.body(instance)).unwrap_or_default();
        let mut response = (status_code(self.code), body).into_response();
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

/// The table holds statuses of the standard only.
fn status_code(code: Code) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
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
    use super::*;

    #[test]
    fn the_cause_of_an_internal_failure_is_not_sent() {
        let problem = Problem::from(OpError::Internal(anyhow::anyhow!("secret path")));
        let body = serde_json::to_string(&problem.body("r")).unwrap();
        assert!(!body.contains("secret path"), "{body}");
        assert!(format!("{:?}", problem.cause()).contains("secret path"));
    }
}
