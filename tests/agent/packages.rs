//! Downloads and packages from the test's own server, with the real clients of the package managers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::v1 as pb;
use proto::v1::command_result::Outcome;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, run_process, step, wait_for};

/// Serves one file. The first answer ends in the middle.
#[derive(Clone)]
struct Flaky {
    content: Bytes,
    n_asked: Arc<AtomicUsize>,
    n_ranges: Arc<AtomicUsize>,
}

async fn flaky(State(it): State<Flaky>, headers: HeaderMap) -> Response {
    let range = headers
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    let from: usize = range.map_or(0, |range| {
        range["bytes=".len()..range.len() - 1].parse().unwrap()
    });
    if from > 0 {
        it.n_ranges.fetch_add(1, Ordering::SeqCst);
    }
    let rest = it.content.slice(from..);
    if it.n_asked.fetch_add(1, Ordering::SeqCst) == 0 {
        let half = rest.slice(..rest.len() / 2);
        let broken = std::io::Error::other("the line is cut");
        let stream = futures_util::stream::iter([Ok(half), Err(broken)]);
        return Response::new(Body::from_stream(stream));
    }
    let status = if from > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    Response::builder()
        .status(status)
        .body(Body::from(rest))
        .unwrap()
}

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn download(url: &str, checksum: &str) -> pb::Step {
    let download = pb::Download {
        url: url.to_owned(),
        path: "dl/file".to_owned(),
        checksum: checksum.to_owned(),
    };
    let mut step = step("download", StepAction::Download(download));
    step.retry = Some(pb::Retry {
        attempts: 3,
        backoff_ms: 10,
    });
    step
}

#[tokio::test]
async fn a_download_is_resumed_checked_and_shared() {
    let content = Bytes::from(vec![7_u8; 3_000_000]);
    let pinned = format!("sha256:{}", hex::encode(digest(&SHA256, &content)));
    let it = Flaky {
        content: content.clone(),
        n_asked: Arc::default(),
        n_ranges: Arc::default(),
    };
    let url = serve(Router::new().route("/f", get(flaky)).with_state(it.clone())).await + "/f";
    // Requests to the test's own server must not go through a proxy.
    let mut bed = Bed::with_env(&[("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")]).await;
    bed.prepare().await;

    let wrong = format!("sha256:{}", hex::encode(digest(&SHA256, b"else")));
    let result = bed
        .gateway
        .run(bed.install(vec![download(&url, &wrong)]))
        .await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:?}");
    assert!(
        result.error.contains(&wrong) && result.error.contains(&pinned),
        "{result:?}"
    );
    assert!(bed.files().is_empty(), "{:?}", bed.files());
    assert!(
        it.n_ranges.load(Ordering::SeqCst) > 0,
        "the agent did not resume the download"
    );

    bed.gateway
        .run_well(bed.install(vec![download(&url, &pinned)]))
        .await;
    assert_eq!(std::fs::read(bed.root().join("dl/file")).unwrap(), content);
    let n_asked = it.n_asked.load(Ordering::SeqCst);
    bed.node = uuid::Uuid::now_v7().to_string();
    bed.prepare().await;
    bed.gateway
        .run_well(bed.install(vec![download(&url, &pinned)]))
        .await;
    assert_eq!(std::fs::read(bed.root().join("dl/file")).unwrap(), content);
    assert_eq!(
        it.n_asked.load(Ordering::SeqCst),
        n_asked,
        "the second node downloaded again"
    );
}

/// A registry with one package, whose install script would create a file.
async fn registry(folder: &Path) -> (String, String) {
    let package = folder.join("package");
    std::fs::create_dir_all(package.join("bin")).unwrap();
    let manifest = serde_json::json!({
        "name": "@test/tool", "version": "1.2.3", "bin": { "tool": "bin/tool" },
        "scripts": { "postinstall": "touch /tmp/bellwether-postinstall-ran" },
    });
    std::fs::write(package.join("package.json"), manifest.to_string()).unwrap();
    std::fs::write(
        package.join("bin/tool"),
        "#!/bin/sh\necho npm tool > said\nexec sleep 1000\n",
    )
    .unwrap();
    let tarball = folder.join("tool.tgz");
    let mut tar = std::process::Command::new("tar");
    assert!(
        tar.arg("-czf")
            .arg(&tarball)
            .arg("-C")
            .arg(folder)
            .arg("package")
            .status()
            .unwrap()
            .success()
    );
    let bytes = Bytes::from(std::fs::read(&tarball).unwrap());
    let integrity = format!("sha512-{}", STANDARD.encode(digest(&SHA512, &bytes)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut version = manifest;
    version["dist"] =
        serde_json::json!({ "tarball": format!("{url}/tool.tgz"), "integrity": integrity });
    let packument = serde_json::json!({
        "name": "@test/tool", "dist-tags": { "latest": "1.2.3" }, "versions": { "1.2.3": version },
    })
    .to_string();
    let answer =
        get(move || async move { ([(header::CONTENT_TYPE, "application/json")], packument) });
    let router = Router::new()
        .route("/@test%2ftool", answer.clone())
        .route("/@test/tool", answer)
        .route("/tool.tgz", get(move || async move { bytes }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, integrity)
}

fn npm(integrity: &str, version: &str) -> pb::Step {
    let package = pb::Package {
        manager: pb::package::Manager::Npm.into(),
        name: "@test/tool".to_owned(),
        version: version.to_owned(),
        integrity: integrity.to_owned(),
        binaries: [("tool".to_owned(), "bin/tool".to_owned())].into(),
    };
    step("package", StepAction::Package(package))
}

#[tokio::test]
async fn an_npm_package_is_installed_and_a_wrong_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (url, integrity) = registry(folder.path()).await;
    let cache = folder.path().join("npm-cache");
    let bed = Bed::with_env(&[
        ("npm_config_registry", &url),
        ("npm_config_cache", cache.to_str().unwrap()),
        ("npm_config_noproxy", "127.0.0.1"),
    ])
    .await;
    bed.prepare().await;

    let wrong = format!("sha512-{}", STANDARD.encode(digest(&SHA512, b"else")));
    let result = bed
        .gateway
        .run(bed.install(vec![npm(&wrong, "1.2.3")]))
        .await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:?}");
    assert!(
        result.error.contains(&integrity) && result.error.contains(&wrong),
        "{result:?}"
    );
    assert!(bed.files().is_empty(), "{:?}", bed.files());
    for version in ["latest", "^1", "../x"] {
        let result = bed
            .gateway
            .run(bed.install(vec![npm(&integrity, version)]))
            .await;
        assert!(result.error.contains("not an exact version"), "{result:?}");
    }

    let run = run_process("tool", "exec bin/tool");
    bed.gateway
        .run_well(bed.install(vec![npm(&integrity, "1.2.3"), run, wait_for("said")]))
        .await;
    assert_eq!(
        std::fs::read_to_string(bed.root().join("said")).unwrap(),
        "npm tool\n"
    );
    assert!(
        !Path::new("/tmp/bellwether-postinstall-ran").exists(),
        "a script of the package was run"
    );
}
