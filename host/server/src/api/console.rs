//! The console and the API's reference page: files of ours and libraries of others, embedded into the binary.
//!
//! The libraries are not in git: npm puts them into `node_modules` as the lock file names them, and they are served as they
//! are. Without them the host still builds and runs, and says here which command brings them.

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use host_wire::Code;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::{EmbeddedFile, RustEmbed};
use sha2::{Digest, Sha256};

use super::Ops;
use super::problem::Problem;

/// Modules and styles of ours.
#[derive(RustEmbed)]
#[folder = "console/src"]
#[allow_missing = true]
struct Own;

/// Modules of others, put there by set-up: what the import maps of the two pages name, no more.
#[derive(RustEmbed)]
#[folder = "console/node_modules"]
#[allow_missing = true]
#[include = "@preact/signals/dist/signals.mjs"]
#[include = "@preact/signals-core/dist/signals-core.mjs"]
#[include = "htm/dist/htm.module.js"]
#[include = "preact/dist/preact.mjs"]
#[include = "preact/hooks/dist/hooks.mjs"]
#[include = "uplot/dist/uPlot.esm.js"]
#[include = "uplot/dist/uPlot.min.css"]
struct Vendor;

/// Without this one no page runs.
const FIRST_LIBRARY: &str = "preact/dist/preact.mjs";
/// What brings the libraries.
const SET_UP: &str = "cargo xtask setup";

pub(super) fn routes() -> Router<Ops> {
    Router::new()
        .route("/", get(index))
        .route("/docs", get(reference))
        .route("/assets/{*path}", get(asset))
}

async fn index(headers: HeaderMap) -> Response {
    page("index.html", "The console", &headers)
}

/// Paths are as in the source: `/assets/app.js` is `console/src/app.js`, `/assets/vendor/…` is `console/node_modules/…`.
async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let found = match path.strip_prefix("vendor/") {
        Some(name) => Vendor::get(name),
        None => Own::get(path.strip_prefix("src/").unwrap_or(&path)),
    };
    match found {
        Some(file) => send(&path, file, &headers),
        None => {
            Problem::new(Code::NotFound, format!("There is no asset `{path}`.")).into_response()
        }
    }
}

/// The reference of the API, without anything from elsewhere.
async fn reference(headers: HeaderMap) -> Response {
    page("docs.html", "The reference page", &headers)
}

/// A page of ours, or how to get it when its libraries were not there at the build.
fn page(name: &str, what: &str, headers: &HeaderMap) -> Response {
    let is_whole = Vendor::get(FIRST_LIBRARY).is_some();
    match Own::get(name).filter(|_| is_whole) {
        Some(file) => {
            let policy = policy(&String::from_utf8_lossy(&file.data));
            with_policy(send(name, file, headers), &policy)
        }
        None => missing(what),
    }
}

fn missing(what: &str) -> Response {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Bellwether</title>\
         <h1>{what} was not built in</h1>\
         <p>Run <code>{SET_UP}</code> in the source folder, build <code>bellwether</code> again and start it.</p>\
         <p>The API works: see <a href=\"/api/openapi.json\">/api/openapi.json</a>.</p></html>"
    );
    let html = super::system::typed("text/html; charset=utf-8", page);
    (StatusCode::SERVICE_UNAVAILABLE, html).into_response()
}

fn send(path: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let is_known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|known| {
            known
                .split(',')
                .any(|known| known.trim().trim_start_matches("W/") == tag)
        });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        file.data.into_owned().into_response()
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(media_type(path)),
    );
    // Asked for each time, answered by 304 while it is the same: an upgrade is seen at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        _ => "application/octet-stream",
    }
}

fn with_policy(mut response: Response, policy: &str) -> Response {
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// Everything from here and nothing from elsewhere; scripts in the page itself (its import map) by their hash.
fn policy(page: &str) -> String {
    let scripts = inline_scripts(page).fold(String::new(), |sources, script| {
        let digest = STANDARD.encode(Sha256::digest(script.as_bytes()));
        sources + " 'sha256-" + &digest + "'"
    });
    format!(
        "default-src 'self'; script-src 'self'{scripts}; style-src 'self'; img-src 'self' data:; \
         object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

fn inline_scripts(page: &str) -> impl Iterator<Item = &str> {
    page.split("<script").skip(1).filter_map(|rest| {
        let (attributes, rest) = rest.split_once('>')?;
        let (script, _) = rest.split_once("</script>")?;
        (!attributes.contains("src=")).then_some(script)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_in_the_page_are_allowed_by_their_hash_only() {
        let page = r#"<script src="/assets/app.js"></script><script type="importmap">{}</script>"#;
        assert_eq!(inline_scripts(page).collect::<Vec<_>>(), ["{}"]);
        let policy = policy(page);
        assert!(
            policy.contains(
                "script-src 'self' 'sha256-RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=';"
            ),
            "{policy}"
        );
    }
}
