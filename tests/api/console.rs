//! What a browser gets, and what machines ask.

use reqwest::Method;

use super::bed::Bed;

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_headers_that_make_a_browser_careful() {
    let bed = Bed::start().await;
    for path in ["/", "/docs", "/health", "/api/openapi.json", "/nothing"] {
        let response = bed.bare(Method::GET, path).send().await.unwrap();
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        assert!(
            !policy.contains("http"),
            "{path} allows another origin: {policy}"
        );
        assert!(
            !headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_can_ask_how_the_host_does() {
    let bed = Bed::start().await;
    let health: serde_json::Value = bed.get("/health").await;
    assert_eq!(health["status"], "ok");
    let ready = bed.get("/readyz").await;
    assert_eq!(ready["status"], "ready", "{ready}");
    let parts = ready["components"].as_array().unwrap().iter();
    let parts: Vec<_> = parts.map(|part| part["name"].as_str().unwrap()).collect();
    assert_eq!(
        parts,
        [
            "database", "engine", "keys", "gateway", "chains", "events", "process"
        ]
    );
    let metrics = bed.bare(Method::GET, "/metrics").send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(
        metrics.contains("http_requests_total{method=\"GET\",route=\"/health\",status=\"200\"}"),
        "{metrics}"
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_workflow_engine_is_away_is_not_ready() {
    let bed = Bed::start().await;
    bed.sql("engine.db", "ALTER TABLE history RENAME TO away")
        .await;
    let response = bed.bare(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!(response.status(), 503);
    let ready: serde_json::Value = response.json().await.unwrap();
    assert_eq!(ready["status"], "degraded");
    for part in ready["components"].as_array().unwrap() {
        assert_eq!(part["is_ready"], part["name"] != "engine", "{ready}");
    }
    bed.sql("engine.db", "ALTER TABLE away RENAME TO history")
        .await;
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_the_embedded_folders_can_be_read() {
    let bed = Bed::start().await;
    for path in [
        "/assets/../Cargo.toml",
        "/assets/%2e%2e/package.json",
        "/assets/vendor/%2e%2e/%2e%2e/Cargo.toml",
        "/assets//etc/passwd",
    ] {
        let response = bed.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
    }
    bed.stop().await;
}
