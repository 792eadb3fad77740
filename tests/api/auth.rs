//! Keys and scopes.

use host_server::ops::Scope;
use reqwest::Method;

use super::bed::{Bed, problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_valid_key_is_refused() {
    let bed = Bed::start().await;
    let bare = || bed.bare(Method::GET, "/api/v1/nodes");
    let foreign = format!("bw_live_{}", "x".repeat(43));
    for request in [
        bare(),
        bare().header("authorization", "Basic eDp5"),
        bare().bearer_auth(""),
        bare().bearer_auth("bw_live_"),
        bare().bearer_auth(foreign),
        bare().bearer_auth(format!("{}x", bed.admin)),
        bare().bearer_auth(&bed.admin[..bed.admin.len() - 1]),
    ] {
        let response = request.send().await.unwrap();
        assert!(response.headers().contains_key("www-authenticate"));
        problem(response, 401, "unauthenticated").await;
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_route_asks_for_its_own_scope_before_it_reads_the_body() {
    let bed = Bed::start().await;
    let reader = bed.key("reader", &[Scope::NodesRead]).await;
    for (method, path, scope) in [
        (Method::POST, "/api/v1/nodes", "nodes:write"),
        (Method::POST, "/api/v1/nodes/x/terminate", "nodes:write"),
        (Method::PUT, "/api/v1/nodes/x/keys/y", "nodes:write"),
        (Method::POST, "/api/v1/nodes/x/keys/y/export", "keys:export"),
        (Method::GET, "/api/v1/incidents", "incidents:read"),
        (Method::POST, "/api/v1/plugins/reload", "admin"),
        (Method::GET, "/api/v1/agents", "admin"),
        (Method::POST, "/api/v1/agents/enrolment-tokens", "admin"),
        (Method::GET, "/api/v1/admin/api-keys", "admin"),
        (Method::POST, "/api/v1/admin/api-keys", "admin"),
        (Method::POST, "/api/v1/admin/api-keys/x/revoke", "admin"),
        (Method::GET, "/api/v1/admin/audit", "admin"),
    ] {
        let response = bed
            .bare(method, path)
            .bearer_auth(&reader)
            .body("?")
            .send()
            .await
            .unwrap();
        let answer = problem(response, 403, "missing_scope").await;
        assert!(
            answer["detail"]
                .as_str()
                .unwrap()
                .contains(&format!("`{scope}`")),
            "{answer}"
        );
    }
    let allowed = bed
        .bare(Method::GET, "/api/v1/nodes")
        .bearer_auth(&reader)
        .send()
        .await
        .unwrap();
    assert_eq!(allowed.status(), 200);
    let me = bed
        .bare(Method::GET, "/api/v1/me")
        .bearer_auth(&reader)
        .send()
        .await
        .unwrap();
    let me: serde_json::Value = me.json().await.unwrap();
    assert_eq!(
        me,
        serde_json::json!({ "name": "reader", "scopes": ["nodes:read"] })
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_node_runs_is_shown_to_admins_only() {
    let bed = Bed::start().await;
    bed.node("alice").await;
    let reader = bed.key("reader", &[Scope::NodesRead]).await;
    let seen = bed
        .bare(Method::GET, "/api/v1/nodes/alice")
        .bearer_auth(&reader)
        .send()
        .await
        .unwrap();
    let seen: serde_json::Value = seen.json().await.unwrap();
    assert_eq!(seen["name"], "alice");
    assert_eq!(seen.get("placement"), None);
    assert!(bed.get("/api/v1/nodes/alice").await["placement"]["provider"].is_string());
    bed.stop().await;
}
