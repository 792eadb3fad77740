//! The audit log: who did what, to which object, by which request.

use std::sync::Arc;
use std::time::Duration;

use host_domain::time::Clock as _;
use host_server::ops::Scope;
use host_wire::values::time;
use reqwest::Method;
use serde_json::{Value, json};

use super::bed::{Bed, problem};
use crate::support::fake_clock::FakeClock;

const AUDIT: &str = "/api/v1/admin/audit";

async fn entries(bed: &Bed, query: &str) -> Vec<Value> {
    let page = bed.get(&format!("{AUDIT}?{query}")).await;
    page["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_names_the_key_the_object_and_the_request() {
    let clock = FakeClock::new();
    let bed = Bed::start_at(Arc::new(clock.clone())).await;
    let writer = bed.key("ci", &[Scope::NodesWrite]).await;
    clock.advance(Duration::from_secs(5));
    let request = bed.bare(Method::POST, "/api/v1/nodes").bearer_auth(&writer);
    let request = request.header("x-request-id", "r-17");
    let answer = request.json(&json!({ "chain": "toy", "name": "alice" }));
    let answer: Value = answer.send().await.unwrap().json().await.unwrap();
    let node = format!("node/{}", answer["node_id"].as_str().unwrap());
    let found = entries(&bed, &format!("object={node}&action=create_node")).await;
    let [entry] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(entry["actor"], "ci");
    assert_eq!(entry["object"], node.as_str());
    assert_eq!(entry["request_id"], "r-17");
    assert_eq!(entry["at"], time(clock.now()).to_string());
    // What no request asked for has none.
    let by_host = entries(&bed, "actor=host&action=create_api_key").await;
    assert_eq!(by_host[0]["request_id"], Value::Null);
    assert_eq!(by_host[0]["details"]["name"], "ci");
    // A refused write leaves no entry.
    let refused = bed.request(Method::POST, "/api/v1/nodes");
    let refused = refused.json(&json!({ "chain": "nowhere" })).send().await;
    problem(refused.unwrap(), 400, "invalid_request").await;
    assert_eq!(
        entries(&bed, "actor=admin&action=create_node").await.len(),
        0
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_filtered_and_read_by_pages() {
    let clock = FakeClock::new();
    let bed = Bed::start_at(Arc::new(clock.clone())).await;
    clock.advance(Duration::from_mins(1));
    let since = time(clock.now());
    for name in ["one", "two", "three"] {
        bed.key(name, &[Scope::NodesRead]).await;
        clock.advance(Duration::from_secs(1));
    }
    let names = |entries: &[Value]| -> Vec<String> {
        let names = entries
            .iter()
            .map(|entry| entry["details"]["name"].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    };
    let all = entries(&bed, &format!("object=api_key&since={since}")).await;
    assert_eq!(names(&all), ["three", "two", "one"], "newest first");
    let until = time(clock.now().minus(Duration::from_secs(1)));
    let before = entries(&bed, &format!("since={since}&until={until}")).await;
    assert_eq!(names(&before), ["two", "one"]);
    let first = bed.get(&format!("{AUDIT}?object=api_key&limit=2")).await;
    let next = first["next"].as_str().unwrap();
    let rest = entries(&bed, &format!("object=api_key&limit=1&cursor={next}")).await;
    assert_eq!(names(&rest), ["one"]);
    assert_eq!(entries(&bed, "actor=nobody").await.len(), 0);
    for (query, parameter) in [
        ("since=today", "since"),
        ("who=ci", "who"),
        ("limit=0", "limit"),
    ] {
        let answer = bed.request(Method::GET, &format!("{AUDIT}?{query}")).send();
        let answer = problem(answer.await.unwrap(), 400, "invalid_request").await;
        assert_eq!(answer["errors"][0]["parameter"], parameter, "{answer}");
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_for_administrators() {
    let bed = Bed::start().await;
    let reader = bed.key("reader", &[Scope::NodesRead]).await;
    let answer = bed.bare(Method::GET, AUDIT).bearer_auth(reader).send();
    problem(answer.await.unwrap(), 403, "missing_scope").await;
    let answer = bed.bare(Method::GET, AUDIT).send().await.unwrap();
    problem(answer, 401, "unauthenticated").await;
    bed.stop().await;
}
