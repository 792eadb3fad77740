//! Requests that no grant opens are refused with words, and never leave the machine.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use host_domain::observation::Scalar;
use host_domain::plugin::{AddressRange, HttpGrant};
use host_runtime::{CallError, Failure};
use serde_json::json;

use super::support::{host, hostile_with, http_grant, node, rpc_at};

/// Asks `url` with these grants; the status of the answer, or what the guest was told.
async fn ask(url: &str, grants: Vec<HttpGrant>, port: u16) -> Result<i64, String> {
    let act = json!({"act": "http", "url": url});
    let plugin = hostile_with(&host(), act, grants).await.unwrap();
    match plugin.collect(node(), rpc_at(port)).await {
        Ok(observations) => {
            let status = observations
                .iter()
                .find(|found| found.name == "hostile.status")
                .unwrap();
            let Scalar::Int(status) = status.value else {
                panic!("{status:?}")
            };
            Ok(status)
        }
        Err(CallError::Failure(
            Failure::Denied(reason) | Failure::Upstream(reason) | Failure::Other(reason),
        )) => Err(reason),
        Err(error) => panic!("{error}"),
    }
}

/// A server that counts nothing: whoever reaches it gets 418.
async fn teapot() -> u16 {
    let app = Router::new().route("/", get(async || StatusCode::IM_A_TEAPOT));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
    tokio::spawn(async move { axum::serve(listener, app).await });
    port
}

#[tokio::test]
async fn what_is_granted_is_reached() {
    let port = teapot().await;
    let spelt_out = format!("http://127.0.0.1:{port}/");
    let by_name = format!("http://localhost:{port}/");
    assert_eq!(
        ask("node:rpc", vec![http_grant("node:rpc", &[])], port).await,
        Ok(418)
    );
    assert_eq!(
        ask(&spelt_out, vec![http_grant(&*spelt_out, &[])], port).await,
        Ok(418)
    );
    let grant = http_grant(&*by_name, &[AddressRange::Loopback]);
    assert_eq!(ask(&by_name, vec![grant], port).await, Ok(418));
}

#[tokio::test]
async fn a_host_that_is_not_granted_is_refused() {
    let port = teapot().await;
    let grants = || {
        vec![
            http_grant("https://api.example/v1", &[]),
            http_grant("node:metrics", &[]),
        ]
    };
    let targets = [
        "https://other.example/v1".to_owned(),
        "https://api.example/v2".to_owned(),
        "node:rpc".to_owned(),
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
    ];
    for target in targets {
        let refused = ask(&target, grants(), port).await.unwrap_err();
        assert!(refused.contains("is not granted"), "{target}: {refused}");
    }
}

#[tokio::test]
async fn metadata_is_refused_even_when_the_address_is_granted() {
    let target = "http://169.254.169.254/latest/meta-data/";
    let refused = ask(target, vec![http_grant("http://169.254.169.254", &[])], 1)
        .await
        .unwrap_err();
    assert!(refused.contains("link-local or metadata"), "{refused}");
}

#[tokio::test]
async fn loopback_by_name_is_refused_when_the_name_alone_is_granted() {
    let port = teapot().await;
    let target = format!("http://localhost:{port}/");
    let refused = ask(&target, vec![http_grant(&*target, &[])], port)
        .await
        .unwrap_err();
    assert!(refused.contains("loopback"), "{refused}");
}
