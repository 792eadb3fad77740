//! Nodes over HTTP: making, pages, versions, and doing things once.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::bed::{Bed, problem};

#[tokio::test(flavor = "multi_thread")]
async fn making_a_node_answers_with_an_operation_that_can_be_waited_for() {
    let bed = Bed::start().await;
    let accepted = bed.node("alice").await;
    let id = accepted["operation"]["id"].as_str().unwrap();
    let operation = bed.get(&format!("/api/v1/operations/{id}?wait=1ms")).await;
    assert_eq!(operation["kind"], "provision_node");
    assert_eq!(operation["node_id"], accepted["node_id"]);
    let node = bed.get("/api/v1/nodes/alice").await;
    assert_eq!(node["id"], accepted["node_id"]);
    assert_eq!(node["state"], "provisioning");
    assert_eq!(node["chain"], "toy");
    let listed = bed
        .get(&format!(
            "/api/v1/operations?node={}",
            node["id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(listed["items"][0]["id"], id);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_to_a_node_has_its_changes_of_state() {
    let bed = Bed::start().await;
    let node = bed.node("alice").await;
    let id = node["node_id"].as_str().unwrap();
    let terminate = bed.request(Method::POST, "/api/v1/nodes/alice/terminate");
    assert_eq!(terminate.send().await.unwrap().status(), 202);
    let operation = node["operation"]["id"].as_str().unwrap();
    bed.get(&format!("/api/v1/operations/{operation}?wait=30s"))
        .await;
    let events = bed.get(&format!("/api/v1/nodes/{id}/events")).await;
    let newest = &events["items"][0];
    assert_eq!(newest["kind"], "state_changed", "{events}");
    let message = newest["message"].as_str().unwrap();
    assert!(message.starts_with("provisioning → failed"), "{message}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_list_hold_each_item_once() {
    let bed = Bed::start().await;
    for n in 0..5 {
        bed.node(&format!("node-{n}")).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/nodes?limit=2".to_owned();
    for _ in 0..5 {
        let part = bed.get(&path).await;
        let items = part["items"].as_array().unwrap();
        assert!(items.len() <= 2);
        names.extend(
            items
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        let Some(next) = part["next"].as_str() else {
            break;
        };
        path = format!("/api/v1/nodes?limit=2&cursor={next}");
    }
    assert_eq!(names.len(), 5, "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 5, "{names:?}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_changes_nothing() {
    let bed = Bed::start().await;
    bed.node("alice").await;
    let read = bed
        .request(Method::GET, "/api/v1/nodes/alice")
        .send()
        .await
        .unwrap();
    let tag = read.headers()["etag"].to_str().unwrap().to_owned();
    let node: Value = read.json().await.unwrap();
    assert_eq!(tag, format!("\"{}\"", node["version"]));
    let terminate = |tag: &str| {
        bed.request(Method::POST, "/api/v1/nodes/alice/terminate")
            .header("if-match", tag)
    };
    problem(
        terminate("\"99\"").send().await.unwrap(),
        412,
        "version_mismatch",
    )
    .await;
    let answer = problem(
        terminate("99").send().await.unwrap(),
        400,
        "invalid_request",
    )
    .await;
    assert_eq!(answer["errors"][0]["parameter"], "If-Match");
    assert_eq!(
        bed.get("/api/v1/nodes/alice").await["state"],
        "provisioning"
    );
    // The workflow may write between the two, so a client reads again, as this one does.
    let mut last = 0;
    for _ in 0..20 {
        let read = bed
            .request(Method::GET, "/api/v1/nodes/alice")
            .send()
            .await
            .unwrap();
        let tag = read.headers()["etag"].to_str().unwrap().to_owned();
        last = terminate(&tag).send().await.unwrap().status().as_u16();
        if last != 412 {
            break;
        }
    }
    assert_eq!(last, 202);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_with_the_same_key_gets_the_first_answer_and_does_nothing() {
    let bed = Bed::start().await;
    let post = |name: &str| {
        let body = json!({ "chain": "toy", "name": name });
        bed.request(Method::POST, "/api/v1/nodes")
            .header("idempotency-key", "k-1")
            .json(&body)
    };
    let first = post("alice").send().await.unwrap();
    assert_eq!(first.status(), 202);
    assert!(!first.headers().contains_key("idempotency-replayed"));
    let first: Value = first.json().await.unwrap();
    let second = post("alice").send().await.unwrap();
    assert_eq!(second.status(), 202);
    assert_eq!(second.headers()["idempotency-replayed"], "true");
    assert_eq!(second.json::<Value>().await.unwrap(), first);
    problem(
        post("bob").send().await.unwrap(),
        409,
        "idempotency_mismatch",
    )
    .await;
    assert_eq!(
        bed.get("/api/v1/nodes").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_never_kept_for_repeats() {
    let bed = Bed::start().await;
    let post = || {
        let body = json!({ "machine": "machine-1" });
        let request = bed.request(Method::POST, "/api/v1/agents/enrolment-tokens");
        request.header("idempotency-key", "k-1").json(&body).send()
    };
    let first = post().await.unwrap();
    assert_eq!(first.status(), 201);
    assert_eq!(first.headers()["cache-control"], "no-store");
    let first: Value = first.json().await.unwrap();
    let second: Value = post().await.unwrap().json().await.unwrap();
    assert_ne!(first["token"], second["token"]);
    bed.stop().await;
}
