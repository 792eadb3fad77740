//! Who asks: an API key in `Authorization: Bearer bw_…`, checked once per request, and the scope that a handler needs.
//!
//! A handler names its scope in its argument's type, so that none can forget to ask, and so that a caller without it
//! hears of the scope before anything is said about the body.

use std::marker::PhantomData;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use host_domain::ids::ApiKeyId;
use host_wire::Code;
use host_wire::values::time;
use http::request::Parts;
use http::{HeaderMap, header};
use secrecy::SecretString;

use super::Ops;
use super::edge::RequestId;
use super::problem::Problem;
use crate::ops::{Authentication, Principal, Scope};

/// Lets only requests with a valid key through, and notes whose it is.
pub(crate) async fn authenticate(
    State(ops): State<Ops>,
    mut request: Request,
    next: Next,
) -> Response {
    match principal(&ops, request.headers()).await {
        Ok((principal, key)) => {
            let id = request.extensions().get::<RequestId>();
            let request_id = id.map(|RequestId(id)| id.clone());
            let principal = Principal {
                request_id,
                ..principal
            };
            request.extensions_mut().insert(principal);
            request.extensions_mut().insert(key);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

async fn principal(ops: &Ops, headers: &HeaderMap) -> Result<(Principal, ApiKeyId), Problem> {
    let refused = |detail: &str| Problem::new(Code::Unauthenticated, detail);
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| {
        refused("Send an API key: `Authorization: Bearer bw_…`. `bellwether dev` writes one to .bellwether/admin-key.")
    })?;
    let text = value.to_str().unwrap_or_default();
    let key = text
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let Some((_, key)) = key else {
        return Err(refused(
            "The `Authorization` header has to be `Bearer bw_…`.",
        ));
    };
    let key = SecretString::from(key.trim().to_owned());
    match ops.api_keys.authenticate(&key).await? {
        Authentication::Caller(caller) => {
            ops.api_keys.report_use(&caller.key);
            Ok((caller.principal, caller.key.id))
        }
        Authentication::Expired(at) => Err(refused(&format!(
            "This API key expired at {}; ask an administrator for a new one.",
            time(at)
        ))),
        Authentication::Revoked(at) => Err(refused(&format!(
            "This API key was revoked at {}; ask an administrator for a new one.",
            time(at)
        ))),
        Authentication::Unknown => Err(refused(
            "The host does not know this API key; check that the whole key was copied.",
        )),
    }
}

/// A caller who has the scope `S`.
#[derive(Debug)]
pub(crate) struct Allowed<S>(pub(crate) Principal, PhantomData<S>);

/// A scope as a type.
pub(crate) trait Requires {
    /// The scope.
    const SCOPE: Scope;
}

macro_rules! requirements {
    ($($name:ident),+) => {$(
        #[doc = concat!("Asks for [`Scope::", stringify!($name), "`].")]
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl Requires for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )+};
}

requirements!(
    NodesRead,
    NodesWrite,
    KeysExport,
    SubscriptionsRead,
    SubscriptionsWrite,
    IncidentsRead,
    IncidentsWrite,
    Admin
);

impl<S: Send + Sync, R: Requires> FromRequestParts<S> for Allowed<R> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        require_scope(&principal, R::SCOPE)?;
        Ok(Self(principal, PhantomData))
    }
}

/// A caller with any valid key.
#[derive(Debug)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let principal = parts.extensions.get::<Principal>().cloned();
        principal.map(Self).ok_or_else(|| {
            Problem::internal(anyhow::anyhow!(
                "a route asks who calls, but is outside `authenticate`"
            ))
        })
    }
}

fn require_scope(principal: &Principal, scope: Scope) -> Result<(), Problem> {
    if principal.may(scope) {
        return Ok(());
    }
    let (name, scope) = (&principal.name, scope.as_str());
    let detail = format!("The key `{name}` lacks the scope `{scope}`; use a key that has it.");
    Err(Problem::new(Code::MissingScope, detail))
}
