//! Doing a thing once, also when the host dies between the effect and the record of its answer.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::bed::{Bed, problem};

/// From here on no answer is recorded: what is in the database is what a host leaves that dies after the effect.
const DIE: &str = "
    CREATE TRIGGER dies_at_once BEFORE INSERT ON idempotency_keys WHEN NEW.status <> 0
    BEGIN SELECT RAISE(ABORT, 'the host died here'); END;
    CREATE TRIGGER dies_later BEFORE UPDATE ON idempotency_keys
    BEGIN SELECT RAISE(ABORT, 'the host died here'); END;";
const LIVE: &str = "DROP TRIGGER dies_at_once; DROP TRIGGER dies_later;";

async fn post(bed: &Bed, path: &str, key: &str, body: Option<&Value>) -> Response {
    let request = bed
        .request(Method::POST, path)
        .header("idempotency-key", key);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_crash_finds_the_node_that_the_first_made() {
    let bed = Bed::start().await;
    // Without a name of its own, nothing but the key tells the repeat from a second wish.
    let body = json!({ "chain": "toy" });
    bed.sql("bellwether.db", DIE).await;
    let first = post(&bed, "/api/v1/nodes", "k-1", Some(&body)).await;
    assert_eq!(first.status(), 202);
    let first: Value = first.json().await.unwrap();
    bed.sql("bellwether.db", LIVE).await;
    let bed = bed.restart().await;
    let second = post(&bed, "/api/v1/nodes", "k-1", Some(&body)).await;
    assert_eq!(second.status(), 202);
    assert!(!second.headers().contains_key("idempotency-replayed"));
    let second: Value = second.json().await.unwrap();
    for same in ["/node_id", "/name", "/operation/id"] {
        assert_eq!(second.pointer(same), first.pointer(same), "{same}");
    }
    let nodes = bed.get("/api/v1/nodes").await;
    assert_eq!(nodes["items"].as_array().unwrap().len(), 1, "{nodes}");
    // From now on the answer is kept; another body is refused before and after.
    let third = post(&bed, "/api/v1/nodes", "k-1", Some(&body)).await;
    assert_eq!(third.headers()["idempotency-replayed"], "true");
    assert_eq!(third.json::<Value>().await.unwrap(), second);
    let other = json!({ "chain": "toy", "name": "bob" });
    let other = post(&bed, "/api/v1/nodes", "k-1", Some(&other)).await;
    problem(other, 409, "idempotency_mismatch").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_crash_is_not_refused_for_what_the_first_has_changed() {
    let bed = Bed::start().await;
    let node = bed.node("alice").await;
    let operation = node["operation"]["id"].as_str().unwrap();
    let path = "/api/v1/nodes/alice/terminate";
    bed.sql("bellwether.db", DIE).await;
    let first = post(&bed, path, "k-1", None).await;
    assert_eq!(first.status(), 202);
    bed.sql("bellwether.db", LIVE).await;
    // Meanwhile everything that was asked for happens: a new wish would be refused now.
    let over = bed
        .get(&format!("/api/v1/operations/{operation}?wait=30s"))
        .await;
    assert_eq!(over["state"], "cancelled", "{over}");
    let path = format!(
        "/api/v1/nodes/{}/terminate",
        node["node_id"].as_str().unwrap()
    );
    problem(post(&bed, &path, "k-2", None).await, 409, "conflict").await;
    let repeat = post(&bed, "/api/v1/nodes/alice/terminate", "k-1", None).await;
    assert_eq!(repeat.status(), 202);
    let repeat: Value = repeat.json().await.unwrap();
    assert_eq!(repeat["operation"]["id"], operation);
    bed.stop().await;
}
