//! Extractors that answer with problems: bodies, paths, queries and preconditions.
//!
//! axum's own rejections are plain text and name no field; clients need a pointer to what they have to change.

use std::borrow::Cow;
use std::error::Error as _;

use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use host_wire::{Code, PartQuery};
use http::request::Parts;
use http::{HeaderMap, Uri, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use url::form_urlencoded;
use utoipa::IntoParams;

use super::limits::BODY_MAX;
use super::page::page;
use super::problem::Problem;
use crate::ops::PageRequest;

/// A JSON body, read into a type that refuses what it does not know.
#[derive(Debug)]
pub(crate) struct Valid<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Valid<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let bytes = read_body(request.into_body()).await?;
        parse(&bytes).map(Self)
    }
}

/// Reads a body up to the limit.
pub(crate) async fn read_body(body: axum::body::Body) -> Result<axum::body::Bytes, Problem> {
    axum::body::to_bytes(body, BODY_MAX).await.map_err(|error| {
        let too_large = format!("The body has more than {BODY_MAX} bytes; send less at once.");
        let is_limit = error.into_inner().to_string().contains("length limit");
        if is_limit {
            Problem::new(Code::BodyTooLarge, too_large)
        } else {
            Problem::new(
                Code::MalformedBody,
                "The body ended before it was complete; send it again.",
            )
        }
    })
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let found = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = found
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let found = found.map_or_else(|| "none".to_owned(), |found| format!("`{found}`"));
    let detail =
        format!("Set the header `Content-Type: application/json`; this request has {found}.");
    Err(Problem::new(Code::UnsupportedMediaType, detail))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer_of(error.path());
        let error = error.into_inner();
        if error.is_data() {
            bad_field(pointer, &error)
        } else {
            malformed(&error)
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    let detail = match (error.line(), error.is_eof()) {
        (1, true) if error.column() == 0 => "The body is empty; send a JSON object.".to_owned(),
        _ => format!("The body can't be read as JSON: {error}."),
    };
    Problem::new(Code::MalformedBody, detail)
}

fn bad_field(mut pointer: String, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // The position is for files; a pointer tells more here.
    let text = text.split(" at line ").next().unwrap_or(&text).to_owned();
    let named = quoted(&text, "missing field `").or_else(|| quoted(&text, "unknown field `"));
    if let Some(name) = named.map(escape)
        && !pointer.ends_with(&format!("/{name}"))
    {
        pointer = format!("{pointer}/{name}");
    }
    Problem::field(pointer, text)
}

/// The name after `before`, up to the closing backtick.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.split('`').next()
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", escape(key)),
            Segment::Enum { .. } | Segment::Unknown => String::new(),
        })
        .collect()
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The variable parts of the path.
#[derive(Debug)]
pub(crate) struct At<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(value) = Path::from_request_parts(parts, state)
            .await
            .map_err(bad_path)?;
        Ok(Self(value))
    }
}

fn bad_path(rejection: PathRejection) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::new(Code::NoSuchRoute, "The path can't be read.");
    };
    match error.into_kind() {
        ErrorKind::DeserializeError {
            key,
            value,
            message,
        } => Problem::parameter(key, format!("`{value}` can't be used: {message}")),
        ErrorKind::ParseErrorAtKey {
            key,
            value,
            expected_type,
        } => Problem::parameter(key, format!("`{value}` is no {expected_type}")),
        ErrorKind::InvalidUtf8InPathParam { key } => Problem::parameter(key, "is not UTF-8"),
        other => Problem::parameter("id", other.to_string()),
    }
}

/// The parameters of the query.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        read_query(&parts.uri).map(Self)
    }
}

/// Which items of a list, and which part of them: every list has the same two parameters for its parts beside its own.
#[derive(Debug)]
pub(crate) struct List<F>(pub(crate) F, pub(crate) PageRequest);

/// Of a list that is shown as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Everything {}

impl<S: Send + Sync, F: DeserializeOwned> FromRequestParts<S> for List<F> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let (of_part, of_filter): (Vec<_>, Vec<_>) = form_urlencoded::parse(query.as_bytes())
            .partition(|(name, _)| PartQuery::NAMES.contains(&name.as_ref()));
        let filter = read_query(&only(&of_filter)?)?;
        let part: PartQuery = read_query(&only(&of_part)?)?;
        Ok(Self(filter, page(&part)?))
    }
}

fn only(pairs: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<Uri, Problem> {
    let mut query = form_urlencoded::Serializer::new("/?".to_owned());
    let query = query.extend_pairs(pairs).finish();
    query
        .parse()
        .map_err(|error: http::uri::InvalidUri| Problem::internal(anyhow::Error::new(error)))
}

fn read_query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    type Tracked = serde_path_to_error::Error<serde::de::value::Error>;
    let read = Query::try_from_uri(uri).map(|Query(value)| value);
    read.map_err(|rejection| {
        let mut source = rejection.source();
        while let Some(error) = source {
            if let Some(tracked) = error.downcast_ref::<Tracked>() {
                return bad_query(&tracked.path().to_string(), &tracked.inner().to_string());
            }
            source = error.source();
        }
        bad_query(".", &rejection.body_text())
    })
}

fn bad_query(path: &str, text: &str) -> Problem {
    let named = quoted(text, "missing field `").or_else(|| quoted(text, "unknown field `"));
    let named = named.or_else(|| quoted(text, "duplicate field `"));
    Problem::parameter(
        named.unwrap_or(path),
        text.replace("field `", "parameter `"),
    )
}

/// The header that [`IfMatch`] reads, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described; the extractor reads it")]
pub(crate) struct IfMatchHeader {
    /// Only if it is still at this version, the `ETag` of the last answer.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// The version that the client has seen (`If-Match`), when it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<i64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(Self(None));
        };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let version = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let version = version.and_then(|text| text.parse().ok());
        version.map(|version| Self(Some(version))).ok_or_else(|| {
            let wanted = "send the `ETag` of the last answer as it is, such as `If-Match: \"7\"`";
            Problem::parameter("If-Match", format!("`{text}` is no version; {wanted}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Wanted {
        chain: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Inner {
        count: u32,
    }

    fn check(body: &str, code: Code, pointer: Option<&str>) {
        let problem = parse::<Wanted>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.code(), code, "{body}");
        let found = problem
            .body("")
            .errors
            .first()
            .and_then(|error| error.pointer.clone());
        assert_eq!(found.as_deref(), pointer, "{body}");
    }

    #[test]
    fn each_mistake_names_its_field() {
        check("", Code::MalformedBody, None);
        check("{", Code::MalformedBody, None);
        check(r#"{"chain":"a"} x"#, Code::MalformedBody, None);
        check("[]", Code::InvalidRequest, Some(""));
        check("{}", Code::InvalidRequest, Some("/chain"));
        check(r#"{"chain":1}"#, Code::InvalidRequest, Some("/chain"));
        check(
            r#"{"chain":"a","x/y":1}"#,
            Code::InvalidRequest,
            Some("/x~1y"),
        );
        check(
            r#"{"chain":"a","inner":[{"count":"1"}]}"#,
            Code::InvalidRequest,
            Some("/inner/0/count"),
        );
        check(
            r#"{"chain":"a","inner":[{}]}"#,
            Code::InvalidRequest,
            Some("/inner/0/count"),
        );
        check(
            r#"{"chain":"a","inner":[{"count":1,"b":2}]}"#,
            Code::InvalidRequest,
            Some("/inner/0/b"),
        );
    }
}
