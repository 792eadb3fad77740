//! Every bad request is a problem that names what has to change.

use reqwest::Method;
use serde_json::Value;

use super::bed::{Bed, problem};

/// Method, path, content type, body, status, code, and the pointer or parameter that is named.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    u16,
    &'static str,
    &'static str,
);

const JSON: &str = "application/json";
const NO_NODE: &str = "/api/v1/nodes/0198a000-0000-7000-8000-000000000000";

const CASES: &[Case] = &[
    ("POST", "/api/v1/nodes", JSON, "", 400, "malformed_body", ""),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":",
        400,
        "malformed_body",
        "",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":\"toy\"}}",
        400,
        "malformed_body",
        "",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{}",
        400,
        "invalid_request",
        "/chain",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":7}",
        400,
        "invalid_request",
        "/chain",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":\"toy\",\"nmae\":\"x\"}",
        400,
        "invalid_request",
        "/nmae",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":\"toy\",\"inputs\":{\"a\":1}}",
        400,
        "invalid_request",
        "/inputs/a",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":\"nowhere\",\"node_type\":\"full\"}",
        400,
        "invalid_request",
        "/chain",
    ),
    (
        "POST",
        "/api/v1/nodes",
        JSON,
        "{\"chain\":\"toy\",\"node_type\":\"archive\"}",
        400,
        "invalid_request",
        "/node_type",
    ),
    (
        "POST",
        "/api/v1/nodes",
        "text/plain",
        "{\"chain\":\"toy\"}",
        415,
        "unsupported_media_type",
        "",
    ),
    (
        "POST",
        "/api/v1/nodes",
        "",
        "{\"chain\":\"toy\"}",
        415,
        "unsupported_media_type",
        "",
    ),
    (
        "GET",
        "/api/v1/nodes?limit=0",
        "",
        "",
        400,
        "invalid_request",
        "limit",
    ),
    (
        "GET",
        "/api/v1/nodes?limit=201",
        "",
        "",
        400,
        "invalid_request",
        "limit",
    ),
    (
        "GET",
        "/api/v1/nodes?limit=many",
        "",
        "",
        400,
        "invalid_request",
        "limit",
    ),
    (
        "GET",
        "/api/v1/nodes?cursor=guess",
        "",
        "",
        400,
        "invalid_request",
        "cursor",
    ),
    (
        "GET",
        "/api/v1/nodes?state=fine",
        "",
        "",
        400,
        "invalid_request",
        "state",
    ),
    (
        "GET",
        "/api/v1/nodes?colour=red",
        "",
        "",
        400,
        "invalid_request",
        "colour",
    ),
    (
        "GET",
        "/api/v1/incidents?severity=awful",
        "",
        "",
        400,
        "invalid_request",
        "severity",
    ),
    (
        "GET",
        "/api/v1/incidents?node=alice",
        "",
        "",
        400,
        "invalid_request",
        "node",
    ),
    (
        "GET",
        "/api/v1/incidents/alice",
        "",
        "",
        400,
        "invalid_request",
        "id",
    ),
    (
        "GET",
        "/api/v1/events?kind=gossip",
        "",
        "",
        400,
        "invalid_request",
        "kind",
    ),
    (
        "GET",
        "/api/v1/events?after=yesterday",
        "",
        "",
        400,
        "invalid_request",
        "after",
    ),
    (
        "GET",
        "/api/v1/operations/0198a000-0000-7000-8000-000000000000?wait=ever",
        "",
        "",
        400,
        "invalid_request",
        "wait",
    ),
    (
        "GET",
        "/api/v1/operations/0198a000-0000-7000-8000-000000000000?wait=1h",
        "",
        "",
        400,
        "invalid_request",
        "wait",
    ),
    (
        "GET",
        "/api/v1/operations/0198a000-0000-7000-8000-000000000000",
        "",
        "",
        404,
        "not_found",
        "",
    ),
    ("GET", NO_NODE, "", "", 404, "not_found", ""),
    ("GET", "/api/v1/nodes/nobody", "", "", 404, "not_found", ""),
    (
        "GET",
        "/api/v1/chains/nowhere",
        "",
        "",
        404,
        "not_found",
        "",
    ),
    ("GET", "/api/v1/wishes", "", "", 404, "no_such_route", ""),
    ("GET", "/nothing", "", "", 404, "no_such_route", ""),
    (
        "DELETE",
        "/api/v1/nodes",
        "",
        "",
        405,
        "method_not_allowed",
        "",
    ),
    ("POST", "/health", "", "", 405, "method_not_allowed", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_request_is_a_problem_that_names_its_field() {
    let bed = Bed::start().await;
    for (method, path, media, body, status, code, field) in CASES {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = bed.request(method, path).body(*body);
        if !media.is_empty() {
            request = request.header("content-type", *media);
        }
        println!("{path} {body}");
        let answer = problem(request.send().await.unwrap(), *status, code).await;
        let errors = answer["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.first().map(|error| {
            let name = error.get("pointer").or_else(|| error.get("parameter"));
            name.and_then(Value::as_str).unwrap_or_default().to_owned()
        });
        assert_eq!(named.unwrap_or_default(), *field, "{path} {body}: {answer}");
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_a_mebibyte_is_refused() {
    let bed = Bed::start().await;
    let body = format!("{{\"chain\":\"{}\"}}", "x".repeat(1024 * 1024));
    let request = bed
        .request(Method::POST, "/api/v1/nodes")
        .header("content-type", JSON);
    problem(
        request.body(body).send().await.unwrap(),
        413,
        "body_too_large",
    )
    .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_a_problem_leads_to_its_page() {
    let bed = Bed::start().await;
    let response = bed
        .bare(Method::GET, "/problems/version_mismatch")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let page = response.text().await.unwrap();
    assert!(page.starts_with("# 412: "), "{page}");
    bed.stop().await;
}
