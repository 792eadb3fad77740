//! `bellwether:host/http`: one bounded request to a granted target.
//!
//! The host resolves the name itself and connects to exactly the addresses that it has checked, so that a name can't point
//! elsewhere between check and use. No proxy, no redirect, no cookie; bodies are bounded in both directions and time by the call.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use host_domain::plugin::AddressRange;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName};

use super::address::classify;
use super::http_grants::{Allowed, Reach, Refusal, origin};
use super::http_secrets::{ENCODING_HEADERS, Injected};
use crate::bindings::shared::bellwether::host::http::{
    Header, Host, HttpError, Method, Request, Response, ResponseHeader,
};
use crate::state::HostState;

/// Headers of one request, and of one answer that are handed on.
const HEADERS_MAX: usize = 100;
/// What the transport decides; a guest that sets them could smuggle a second request.
const RESERVED_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The clients of one plugin, one per set of addresses it may reach: a pooled connection must never serve a narrower grant.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<BTreeMap<Reach, reqwest::Client>>);

impl Clients {
    fn client(&self, reach: &Reach) -> Result<reqwest::Client, HttpError> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(reach) {
            return Ok(client.clone());
        }
        let client = build_client(reach).map_err(|error| {
            HttpError::Unreachable(format!("no HTTP client on this machine: {error}"))
        })?;
        clients.insert(reach.clone(), client.clone());
        Ok(client)
    }
}

fn build_client(reach: &Reach) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")));
    match reach {
        // A node restarts under our feet, and a connection on one machine costs nothing: keep none.
        Reach::Node => builder.pool_max_idle_per_host(0),
        Reach::Literal => builder
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30)),
        Reach::Name(ranges) => builder
            .pool_max_idle_per_host(4)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(Arc::new(CheckedResolver {
                ranges: ranges.clone(),
            })),
    }
    .build()
}

/// Resolves a name and lets through only what the grant opens.
struct CheckedResolver {
    ranges: Vec<AddressRange>,
}

/// Every address behind a name is closed to the grant.
#[derive(Debug, thiserror::Error)]
#[error("it leads to {address}, a {word} address, which the grant does not open")]
struct AddressRefused {
    address: IpAddr,
    word: &'static str,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let ranges = self.ranges.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (open, closed): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| classify(address.ip()).is_open_to(&ranges));
            if let (true, Some(address)) = (open.is_empty(), closed.first()) {
                let word = classify(address.ip()).word();
                return Err(AddressRefused {
                    address: address.ip(),
                    word,
                }
                .into());
            }
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

impl Host for HostState {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, HttpError>> {
        self.count_call()?;
        Ok(self.exchange(request).await)
    }
}

impl HostState {
    async fn exchange(&mut self, request: Request) -> Result<Response, HttpError> {
        let Allowed { url, reach } = self
            .plugin
            .http
            .check(&request.url, &self.node.context.ports)
            .map_err(|refusal| match refusal {
                Refusal::Denied(reason) => HttpError::Denied(reason),
                Refusal::Invalid(reason) => HttpError::Invalid(reason),
            })?;
        let body_max = self.plugin.http_body_bytes_max();
        let body = request.body.unwrap_or_default();
        if body.len() > body_max {
            return Err(HttpError::Invalid(format!(
                "the body has {} bytes and the limit is {body_max}",
                body.len()
            )));
        }
        let mut injected = Injected::default();
        let headers = self.headers(request.headers, &mut injected)?;
        let target = origin(&url);
        let exchange = async {
            let sent = self
                .plugin
                .clients
                .client(&reach)?
                .request(method(request.method), url)
                .headers(headers)
                .body(body)
                .send()
                .await
                .map_err(|error| unsent(&target, &error))?;
            receive(&target, sent, body_max, &injected).await
        };
        let limit = self.http_timeout(request.timeout_ms);
        tokio::time::timeout(limit, exchange)
            .await
            .unwrap_or(Err(HttpError::TimedOut))
    }

    /// What the guest asks for, but a little less than the rest of the call, so that it can still answer after a time-out.
    fn http_timeout(&self, asked_ms: Option<u32>) -> Duration {
        let rest = self.time_left().mul_f64(0.9);
        asked_ms.map_or(rest, |ms| rest.min(Duration::from_millis(u64::from(ms))))
    }

    fn headers(
        &mut self,
        headers: Vec<Header>,
        injected: &mut Injected,
    ) -> Result<HeaderMap, HttpError> {
        if headers.len() > HEADERS_MAX {
            return Err(HttpError::Invalid(format!(
                "a request has at most {HEADERS_MAX} headers"
            )));
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        for Header { name, value } in headers {
            let bad = |what: &str| {
                HttpError::Invalid(format!("the header `{}` {what}", name.escape_debug()))
            };
            let key = HeaderName::try_from(&name).map_err(|_| bad("has no valid name"))?;
            if RESERVED_HEADERS.contains(&key.as_str()) {
                return Err(bad("is set by the host"));
            }
            let value = injected.header_value(&self.table, value);
            map.append(key, value.ok_or_else(|| bad("has no valid value"))?);
        }
        if !injected.is_empty() {
            // In an encoding that only the guest reads, an echo of the secret would not be found.
            for name in ENCODING_HEADERS {
                map.remove(name);
            }
        }
        Ok(map)
    }
}

fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        Method::Patch => reqwest::Method::PATCH,
        Method::Delete => reqwest::Method::DELETE,
    }
}

/// Why nothing came back. The path of the URL is left out: it can be a secret in itself.
fn unsent(target: &str, error: &reqwest::Error) -> HttpError {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    let mut last = String::from("the connection failed");
    while let Some(error) = cause {
        if error.is::<AddressRefused>() {
            return HttpError::Denied(format!("{target}: {error}"));
        }
        last = error.to_string();
        cause = error.source();
    }
    HttpError::Unreachable(format!("{target}: {last}"))
}

async fn receive(
    target: &str,
    answer: reqwest::Response,
    body_max: usize,
    injected: &Injected,
) -> Result<Response, HttpError> {
    let status = answer.status().as_u16();
    let headers = answer
        .headers()
        .iter()
        .take(HEADERS_MAX)
        .map(|(name, value)| ResponseHeader {
            name: name.as_str().to_owned(),
            value: String::from_utf8_lossy(&injected.masked(value.as_bytes())).into_owned(),
        })
        .collect();
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| unsent(target, &error))?;
        if body.len() + chunk.len() > body_max {
            return Err(HttpError::TooLarge(body_max as u64));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body: injected.masked(&body).into_owned(),
    })
}

#[cfg(test)]
mod tests;
