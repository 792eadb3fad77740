//! Subscriptions over HTTP: from the wish over the payment to the end, once each.

use host_server::ops::Scope;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::bed::{Bed, problem};

/// A request of the holder of a key.
async fn post(bed: &Bed, key: &str, path: &str, body: Option<&Value>) -> Response {
    let request = bed.bare(Method::POST, path).bearer_auth(key);
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    request.send().await.unwrap()
}

/// The body of an answer with this status.
async fn answer(response: Response, status: u16) -> Value {
    let found = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(found, status, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn month() -> Value {
    json!({ "chain": "toy", "duration": "30d" })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_made_once_paid_once_and_cancelled() {
    let bed = Bed::start().await;
    let scopes = [Scope::SubscriptionsRead, Scope::SubscriptionsWrite];
    let alice = bed.key("alice", &scopes).await;
    let path = "/api/v1/subscriptions";
    let first = answer(post(&bed, &alice, path, Some(&month())).await, 201).await;
    for (field, expected) in [
        ("state", json!("pending_payment")),
        ("owner", json!("alice")),
        ("node_type", json!("full")),
        ("duration", json!("30d")),
        ("node_id", Value::Null),
        ("expires_at", Value::Null),
        ("payment_id", Value::Null),
    ] {
        assert_eq!(first[field], expected, "{field}");
    }
    assert!(first.get("place").is_none(), "only admins see where");
    let again = answer(post(&bed, &alice, path, Some(&month())).await, 200).await;
    assert_eq!(again, first);
    let id = first["id"].as_str().unwrap();

    // Only an admin records a payment, and however often it is recorded, it counts once.
    let pay = format!("/api/v1/admin/subscriptions/{id}/payments");
    let payment = json!({ "payment_id": "invoice-1" });
    let refused = post(&bed, &alice, &pay, Some(&payment)).await;
    problem(refused, 403, "missing_scope").await;
    let paid = answer(post(&bed, &bed.admin, &pay, Some(&payment)).await, 200).await;
    assert_eq!(paid["subscription"]["state"], "active");
    assert_eq!(paid["subscription"]["payment_id"], "invoice-1");
    assert_eq!(paid["subscription"]["place"]["provider"], "local");
    assert_eq!(paid["operation"]["kind"], "provision_node");
    let twice = answer(post(&bed, &bed.admin, &pay, Some(&payment)).await, 200).await;
    assert_eq!(twice["operation"]["id"], paid["operation"]["id"]);
    assert_eq!(twice["subscription"], paid["subscription"]);
    let nodes = bed.get("/api/v1/nodes").await;
    let [node] = nodes["items"].as_array().unwrap().as_slice() else {
        panic!("one node: {nodes}")
    };
    assert_eq!(node["id"], paid["subscription"]["node_id"]);
    let operations = bed.get("/api/v1/operations").await;
    assert_eq!(operations["items"].as_array().unwrap().len(), 1);
    // It is at work: the workflow was started.
    let workflow = format!(
        "/api/v1/admin/workflows/provision-{}",
        node["id"].as_str().unwrap()
    );
    assert_eq!(bed.get(&workflow).await["workflow"]["state"], "running");

    let cancel = format!("{path}/{id}/cancel");
    let canceled = answer(post(&bed, &alice, &cancel, None).await, 200).await;
    assert_eq!(canceled["state"], "canceled");
    assert_eq!(canceled["expires_at"], paid["subscription"]["expires_at"]);
    problem(post(&bed, &alice, &cancel, None).await, 409, "conflict").await;
    let late = post(
        &bed,
        &bed.admin,
        &pay,
        Some(&json!({ "payment_id": "invoice-2" })),
    )
    .await;
    problem(late, 409, "conflict").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_nobody_paid_ends_at_once_and_makes_room_for_another() {
    let bed = Bed::start().await;
    let path = "/api/v1/subscriptions";
    let first = answer(post(&bed, &bed.admin, path, Some(&month())).await, 201).await;
    let cancel = format!("{path}/{}/cancel", first["id"].as_str().unwrap());
    let over = answer(post(&bed, &bed.admin, &cancel, None).await, 200).await;
    assert_eq!(over["state"], "expired");
    let second = answer(post(&bed, &bed.admin, path, Some(&month())).await, 201).await;
    assert_ne!(second["id"], first["id"]);
    let listed = bed.get("/api/v1/subscriptions?limit=1").await;
    assert_eq!(listed["items"][0]["id"], second["id"]);
    let next = listed["next"].as_str().unwrap();
    let listed = bed.get(&format!("{path}?limit=1&cursor={next}")).await;
    assert_eq!(listed["items"][0]["id"], first["id"]);
    let expired = bed.get(&format!("{path}?state=expired&chain=toy")).await;
    assert_eq!(expired["items"].as_array().unwrap().len(), 1);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_under_a_key_gets_the_first_answer_to_a_subscription_too() {
    let bed = Bed::start().await;
    let path = "/api/v1/subscriptions";
    let keyed = async |path: &str, key: &str, body: &Value| {
        let request = bed.request(Method::POST, path).json(body);
        request.header("idempotency-key", key).send().await.unwrap()
    };
    let made = answer(keyed(path, "k-1", &month()).await, 201).await;
    let again = keyed(path, "k-1", &month()).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(answer(again, 201).await, made);
    let id = made["id"].as_str().unwrap();
    let pay = format!("/api/v1/admin/subscriptions/{id}/payments");
    let payment = json!({ "payment_id": "invoice-1" });
    let paid = answer(keyed(&pay, "k-2", &payment).await, 200).await;
    let again = keyed(&pay, "k-2", &payment).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(answer(again, 200).await, paid);
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_wish_for_a_subscription_names_its_field() {
    let bed = Bed::start().await;
    let path = "/api/v1/subscriptions";
    for (body, field) in [
        (json!({ "chain": "toy" }), "/duration"),
        (json!({ "chain": "toy", "duration": "yearly" }), "/duration"),
        (json!({ "chain": "toy", "duration": "1h" }), "/duration"),
        (json!({ "chain": "moon", "duration": "30d" }), "/chain"),
        (
            json!({ "chain": "toy", "duration": "30d", "node_type": "light" }),
            "/node_type",
        ),
        (
            json!({ "chain": "toy", "duration": "30d", "provider": "moon" }),
            "/provider",
        ),
        (
            json!({ "chain": "toy", "duration": "30d", "region": "moon" }),
            "/region",
        ),
        (
            json!({ "chain": "toy", "duration": "30d", "inputs": {"a": "b"} }),
            "/inputs/a",
        ),
        (
            json!({ "chain": "toy", "duration": "30d", "name": "alice" }),
            "/name",
        ),
    ] {
        let refused = post(&bed, &bed.admin, path, Some(&body)).await;
        let refused = problem(refused, 400, "invalid_request").await;
        assert_eq!(refused["errors"][0]["pointer"], field, "{refused}");
    }
    let none = format!("{path}/{}", uuid::Uuid::nil());
    let request = bed.request(Method::GET, &none);
    problem(request.send().await.unwrap(), 404, "not_found").await;
    let reader = bed.key("reader", &[Scope::SubscriptionsRead]).await;
    let refused = post(&bed, &reader, path, Some(&month())).await;
    problem(refused, 403, "missing_scope").await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_has_a_subscription_and_one_without_a_term_ends_with_it() {
    let bed = Bed::start().await;
    let node = bed.node("alice").await;
    let listed = bed.get("/api/v1/subscriptions").await;
    let [own] = listed["items"].as_array().unwrap().as_slice() else {
        panic!("one subscription: {listed}")
    };
    assert_eq!(own["node_id"], node["node_id"]);
    assert_eq!(
        (&own["state"], &own["owner"]),
        (&json!("active"), &json!("admin"))
    );
    assert_eq!(
        (&own["duration"], &own["expires_at"]),
        (&Value::Null, &Value::Null)
    );
    let terminate = "/api/v1/nodes/alice/terminate";
    answer(post(&bed, &bed.admin, terminate, None).await, 202).await;
    let operation = node["operation"]["id"].as_str().unwrap();
    let over = bed
        .get(&format!("/api/v1/operations/{operation}?wait=30s"))
        .await;
    assert_eq!(over["state"], "cancelled");
    let path = format!("/api/v1/subscriptions/{}", own["id"].as_str().unwrap());
    assert_eq!(bed.get(&path).await["state"], "expired");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_subscription_without_a_term_removes_its_node() {
    let bed = Bed::start().await;
    let node = bed.node("alice").await;
    let listed = bed.get("/api/v1/subscriptions").await;
    let id = listed["items"][0]["id"].as_str().unwrap();
    let cancel = format!("/api/v1/subscriptions/{id}/cancel");
    let over = answer(post(&bed, &bed.admin, &cancel, None).await, 200).await;
    assert_eq!(over["state"], "expired");
    let operation = node["operation"]["id"].as_str().unwrap();
    let over = bed
        .get(&format!("/api/v1/operations/{operation}?wait=30s"))
        .await;
    assert_eq!(over["state"], "cancelled");
    assert_eq!(bed.get("/api/v1/nodes/alice").await["state"], "failed");
    bed.stop().await;
}
