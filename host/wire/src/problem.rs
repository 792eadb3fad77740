//! Problems in JSON (RFC 9457), and the one table of their codes and status codes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of problems.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal),+ $(,)?) => {
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
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// The code of that name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The page that explains the code.
            pub const fn page(self) -> &'static str {
                match self {
                    $(Self::$name => include_str!(concat!("../../../docs/problems/", $code, ".md"))),+
                }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedBody = 400 "malformed_body" "The body is not valid JSON",
    /// A field, a parameter or a header can't be used.
    InvalidRequest = 400 "invalid_request" "The request has invalid values",
    /// No key, or one that nobody has.
    Unauthenticated = 401 "unauthenticated" "The request has no valid API key",
    /// The key lacks the scope.
    MissingScope = 403 "missing_scope" "The API key lacks the required scope",
    /// The object was not found, or it belongs to somebody else.
    NotFound = 404 "not_found" "The object was not found",
    /// The path does not exist.
    NoSuchRoute = 404 "no_such_route" "The path does not exist",
    /// The path exists, the method does not.
    MethodNotAllowed = 405 "method_not_allowed" "The path does not support this method",
    /// The state does not allow it.
    Conflict = 409 "conflict" "The current state does not allow this request",
    /// The key was used with another request.
    IdempotencyMismatch = 409 "idempotency_mismatch" "The idempotency key was used for another request",
    /// The first request with the key is still at work.
    IdempotencyInProgress = 409 "idempotency_in_progress" "The first request with this idempotency key is still running",
    /// Somebody else was faster.
    VersionMismatch = 412 "version_mismatch" "The object has changed since you read it",
    /// The body is too large.
    BodyTooLarge = 413 "body_too_large" "The body is too large",
    /// The body is not declared as JSON.
    UnsupportedMediaType = 415 "unsupported_media_type" "The body must be JSON",
    /// A bug or a broken machine.
    Internal = 500 "internal" "The host failed to process the request",
    /// A service that the host needs is unavailable.
    Unavailable = 503 "unavailable" "A service that the host needs is unavailable",
    /// The request took too long.
    TimedOut = 503 "timed_out" "The request took too long",
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
    /// Its code; `None` when this version of the program does not know it.
    pub fn code(&self) -> Option<Code> {
        Code::parse(self.kind.rsplit('/').next().unwrap_or_default())
    }
}

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
            let head = format!("# {}: {}", code.status(), code.title());
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
}
