//! API keys: created with a token that is shown once, used, listed, expired and revoked.

use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Clock as _;
use host_server::ops::Scope;
use host_wire::values::time;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::bed::{Bed, problem};
use crate::support::fake_clock::FakeClock;
use crate::support::wait::{WAIT_MAX, eventually};

const KEYS: &str = "/api/v1/admin/api-keys";
const DAY: Duration = Duration::from_hours(24);

async fn post(bed: &Bed, path: &str, body: Value) -> Response {
    let request = bed.request(Method::POST, path).json(&body);
    request.send().await.unwrap()
}

async fn create(bed: &Bed, body: Value) -> Value {
    let answer = post(bed, KEYS, body).await;
    let cache = answer.headers().get("cache-control").cloned();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 201, "{text}");
    assert_eq!(cache.unwrap(), "no-store");
    serde_json::from_str(&text).unwrap()
}

async fn revoke(bed: &Bed, key: &str) -> Response {
    let path = format!("{KEYS}/{key}/revoke");
    bed.request(Method::POST, &path).send().await.unwrap()
}

async fn use_key(bed: &Bed, token: &str) -> Response {
    let request = bed.bare(Method::GET, "/api/v1/me").bearer_auth(token);
    request.send().await.unwrap()
}

async fn refused(bed: &Bed, token: &str) -> String {
    let answer = use_key(bed, token).await;
    assert!(answer.headers().contains_key("www-authenticate"));
    let problem = problem(answer, 401, "unauthenticated").await;
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_has_its_scopes_and_its_token_is_shown_once() {
    let bed = Bed::start().await;
    let scopes = json!(["nodes:read", "incidents:read", "nodes:read"]);
    let created = create(&bed, json!({ "name": "ci", "scopes": scopes })).await;
    let (token, key) = (created["token"].as_str().unwrap(), &created["api_key"]);
    assert!(token.starts_with(key["prefix"].as_str().unwrap()));
    assert_eq!(key["scopes"], json!(["nodes:read", "incidents:read"]));
    assert_eq!(key["state"], "active");
    assert_eq!(key["created_by"], "admin");
    assert_eq!(key["expires_at"], Value::Null);
    let me: Value = use_key(&bed, token).await.json().await.unwrap();
    assert_eq!(me["name"], "ci");
    let wider = bed.bare(Method::GET, KEYS).bearer_auth(token).send().await;
    problem(wider.unwrap(), 403, "missing_scope").await;
    let list = bed.get(&format!("{KEYS}?limit=1")).await;
    assert_eq!(list["items"][0]["id"], key["id"], "newest first");
    let rest = format!("{KEYS}?cursor={}", list["next"].as_str().unwrap());
    assert_eq!(bed.get(&rest).await["items"][0]["name"], "admin");
    // The token and its hash are in no list and in no file of the database.
    assert!(!list.to_string().contains(token) && list["items"][0].get("hash").is_none());
    let audit = bed.get("/api/v1/admin/audit").await.to_string();
    assert!(
        audit.contains("create_api_key") && !audit.contains(token),
        "{audit}"
    );
    let dir = bed.stop().await;
    let mut n_files = 0;
    for file in std::fs::read_dir(dir.path().join(".bellwether")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        n_files += usize::from(!bytes.is_empty());
        let found = bytes
            .windows(token.len())
            .any(|part| part == token.as_bytes());
        assert!(!found, "the token was written");
    }
    assert!(n_files > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_of_a_creation_creates_nothing_and_shows_no_token() {
    let bed = Bed::start().await;
    let body = json!({ "name": "ci", "scopes": ["nodes:read"] });
    let send = async || {
        let request = bed.request(Method::POST, KEYS).json(&body);
        let request = request.header("idempotency-key", "k-1");
        request.send().await.unwrap()
    };
    assert_eq!(send().await.status(), 201);
    let repeat = problem(send().await, 409, "conflict").await;
    let detail = repeat["detail"].as_str().unwrap();
    assert!(
        detail.contains("already created") && !detail.contains("bw_live_"),
        "{detail}"
    );
    let keys = bed.get(KEYS).await;
    assert_eq!(keys["items"].as_array().unwrap().len(), 2, "{keys}");
    // Without a key the name alone is taken.
    let second = problem(post(&bed, KEYS, body.clone()).await, 409, "conflict").await;
    assert!(
        second["detail"].as_str().unwrap().contains("name"),
        "{second}"
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_keys_mistakes_are_named() {
    let bed = Bed::start().await;
    let read = ["nodes:read"];
    for (body, pointer) in [
        (json!({ "name": "a b", "scopes": read }), "/name"),
        (json!({ "name": "host", "scopes": read }), "/name"),
        (json!({ "name": "a", "scopes": [] }), "/scopes"),
        (
            json!({ "name": "a", "scopes": ["nodes:read", "root"] }),
            "/scopes/1",
        ),
        (
            json!({ "name": "a", "scopes": read, "expires_in": "1s" }),
            "/expires_in",
        ),
        (
            json!({ "name": "a", "scopes": read, "expires_in": "1826d" }),
            "/expires_in",
        ),
        (
            json!({ "name": "a", "scopes": read, "expires_in": "soon" }),
            "/expires_in",
        ),
        (
            json!({ "name": "a", "scopes": read, "expires_at": "2001-01-01T00:00:00Z" }),
            "/expires_at",
        ),
        (
            json!({ "name": "a", "scopes": read, "expires_in": "1d", "expires_at": "2999-01-01T00:00:00Z" }),
            "/expires_in",
        ),
        (json!({ "name": "a", "scopes": read, "hash": "x" }), "/hash"),
    ] {
        let answer = problem(post(&bed, KEYS, body).await, 400, "invalid_request").await;
        assert_eq!(answer["errors"][0]["pointer"], pointer, "{answer}");
    }
    let keys = bed.get(KEYS).await;
    assert_eq!(keys["items"].as_array().unwrap().len(), 1, "{keys}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_and_only_its_bearer_is_told_so() {
    let clock = FakeClock::new();
    let bed = Bed::start_at(Arc::new(clock.clone())).await;
    let body = json!({ "name": "ci", "scopes": ["nodes:read"], "expires_in": "30d" });
    let created = create(&bed, body.clone()).await;
    let token = created["token"].as_str().unwrap();
    let expires_at = time(clock.now().plus(30 * DAY)).to_string();
    assert_eq!(created["api_key"]["expires_at"], expires_at.as_str());
    clock.advance((30 * DAY).saturating_sub(Duration::from_millis(1)));
    assert_eq!(use_key(&bed, token).await.status(), 200);
    clock.advance(Duration::from_millis(1));
    let detail = refused(&bed, token).await;
    assert!(
        detail.contains("expired") && detail.contains(&expires_at),
        "{detail}"
    );
    // Whoever knows only the public part learns nothing.
    let prefix = created["api_key"]["prefix"].as_str().unwrap();
    let guessed = format!("{prefix}{}", "x".repeat(token.len() - prefix.len()));
    let unknown = format!("bw_live_{}", "x".repeat(43));
    let (guessed, unknown) = (refused(&bed, &guessed).await, refused(&bed, &unknown).await);
    assert_eq!(guessed, unknown);
    assert!(!guessed.contains("expired"), "{guessed}");
    let id = created["api_key"]["id"].clone();
    let expired = bed.get(&format!("{KEYS}?state=expired")).await;
    assert_eq!(expired["items"][0]["id"], id);
    // Its name is free again, and it stays what it was.
    create(&bed, body).await;
    let expired = bed.get(&format!("{KEYS}?state=expired")).await;
    assert_eq!(expired["items"][0]["id"], id);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_from_the_next_request_on() {
    let bed = Bed::start().await;
    let created = create(&bed, json!({ "name": "ci", "scopes": ["nodes:read"] })).await;
    let (token, key) = (created["token"].as_str().unwrap(), &created["api_key"]);
    assert_eq!(use_key(&bed, token).await.status(), 200);
    let id = key["id"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(revoke(&bed, id).await.status(), 204);
        let detail = refused(&bed, token).await;
        assert!(detail.contains("was revoked"), "{detail}");
    }
    let acts = bed.get("/api/v1/admin/audit?action=revoke_api_key").await;
    assert_eq!(acts["items"].as_array().unwrap().len(), 1, "recorded once");
    let revoked = bed.get(&format!("{KEYS}?state=revoked")).await;
    assert_eq!(revoked["items"][0]["id"], id);
    assert!(revoked["items"][0]["revoked_at"].is_string());
    problem(revoke(&bed, "nobody").await, 404, "not_found").await;
    // The name is free again; a name means the active key.
    let second = create(&bed, json!({ "name": "ci", "scopes": ["nodes:read"] })).await;
    assert_eq!(revoke(&bed, "ci").await.status(), 204);
    refused(&bed, second["token"].as_str().unwrap()).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_active_admin_key_can_not_be_revoked() {
    let clock = FakeClock::new();
    let bed = Bed::start_at(Arc::new(clock.clone())).await;
    let admins = ["admin"];
    let last = problem(revoke(&bed, "admin").await, 409, "conflict").await;
    assert!(
        last["detail"].as_str().unwrap().contains("last active"),
        "{last}"
    );
    // One that has expired does not count.
    let short = json!({ "name": "short", "scopes": admins, "expires_in": "1d" });
    create(&bed, short).await;
    clock.advance(DAY);
    problem(revoke(&bed, "admin").await, 409, "conflict").await;
    let second = create(&bed, json!({ "name": "second", "scopes": admins })).await;
    let path = format!("{KEYS}/admin/revoke");
    let other = bed.bare(Method::POST, &path);
    let other = other.bearer_auth(second["token"].as_str().unwrap());
    assert_eq!(other.send().await.unwrap().status(), 204);
    refused(&bed, &bed.admin).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_use_is_known_to_a_minute() {
    let clock = FakeClock::new();
    let bed = Bed::start_at(Arc::new(clock.clone())).await;
    let token = bed.key("ci", &[Scope::NodesRead]).await;
    let last_use = async || {
        let keys = bed.get(KEYS).await;
        let keys = keys["items"].as_array().unwrap().clone();
        let key = keys.into_iter().find(|key| key["name"] == "ci").unwrap();
        key["last_used_at"].clone()
    };
    assert_eq!(last_use().await, Value::Null);
    let used_at = async |at: &str| {
        assert_eq!(use_key(&bed, &token).await.status(), 200);
        eventually("the use is recorded", WAIT_MAX, async || {
            (last_use().await == at).then_some(())
        })
        .await;
    };
    let first = time(clock.now()).to_string();
    used_at(&first).await;
    clock.advance(Duration::from_secs(59));
    // The second use within the minute is not recorded, which shows when the third one is.
    assert_eq!(use_key(&bed, &token).await.status(), 200);
    assert_eq!(last_use().await, first.as_str());
    clock.advance(Duration::from_secs(1));
    used_at(&time(clock.now()).to_string()).await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_event_stream_of_a_revoked_key_ends() {
    let bed = Bed::start().await;
    let token = bed.key("ci", &[Scope::NodesRead]).await;
    let stream = bed.bare(Method::GET, "/api/v1/events").bearer_auth(&token);
    let stream = stream.send().await.unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(revoke(&bed, "ci").await.status(), 204);
    let read = tokio::time::timeout(WAIT_MAX, stream.text()).await;
    let read = read.expect("the stream ends").unwrap();
    assert!(
        read.contains("event: connected") && read.contains("event: cut"),
        "{read}"
    );
    bed.stop().await;
}
