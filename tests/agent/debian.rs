//! Debian packages, with the real apt-get and dpkg-deb from the test's own repository.
//!
//! The machine's package lists are empty, as in most containers, and the agent must not need root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::http::{StatusCode, Uri};
use proto::v1 as pb;
use proto::v1::command::Action;
use proto::v1::command_result::Outcome;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, run_process, step, wait_for};

const CONTROL: &str = "Package: bw-tool\nVersion: 1.0-1\nArchitecture: all\nMaintainer: Test <test@example.org>\n\
    Description: a tool\n";

/// A package whose script would create a file.
fn build_deb(folder: &Path) -> Vec<u8> {
    let tree = folder.join("tree");
    let put = |path: &str, text: &str| {
        let path = tree.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    put("DEBIAN/control", CONTROL);
    let trace = folder.join("postinst-ran");
    put(
        "DEBIAN/postinst",
        &format!("#!/bin/sh\ntouch {}\n", trace.display()),
    );
    put(
        "usr/bin/bw-tool",
        "#!/bin/sh\necho apt tool > part\nmv part said\nexec sleep 1000\n",
    );
    std::fs::set_permissions(tree.join("DEBIAN"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let deb = folder.join("bw-tool.deb");
    let built = Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .args([&tree, &deb])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    std::fs::read(deb).unwrap()
}

/// Serves the package and its list, and returns apt's configuration and the package's digest.
async fn repository(folder: &Path) -> (String, String) {
    let deb = build_deb(folder);
    let hex = hex::encode(digest(&SHA256, &deb));
    let list = format!(
        "{CONTROL}Filename: ./bw-tool.deb\nSize: {}\nSHA256: {hex}\n\n",
        deb.len()
    );
    let answer = async move |uri: Uri| match uri.path().rsplit('/').next() {
        Some("Packages") => Ok(list.clone().into_bytes()),
        Some("bw-tool.deb") => Ok(deb.clone()),
        _ => Err(StatusCode::NOT_FOUND),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(
        path("sources.list"),
        format!("deb [trusted=yes] {url} ./\n"),
    )
    .unwrap();
    std::fs::create_dir(path("no-lists")).unwrap();
    let conf = format!(
        "Dir::Etc::sourcelist \"{}\";\nDir::Etc::sourceparts \"-\";\nDir::State::Lists \"{}\";\n\
         Acquire::http::Proxy::127.0.0.1 \"DIRECT\";\nAcquire::Languages \"none\";\n",
        path("sources.list"),
        path("no-lists"),
    );
    std::fs::write(path("apt.conf"), conf).unwrap();
    (path("apt.conf"), format!("sha256:{hex}"))
}

fn apt(integrity: &str, version: &str) -> pb::Step {
    let package = pb::Package {
        manager: pb::package::Manager::Apt.into(),
        name: "bw-tool".to_owned(),
        version: version.to_owned(),
        integrity: integrity.to_owned(),
        binaries: [("bw-tool".to_owned(), "usr/bin/bw-tool".to_owned())].into(),
    };
    step("package", StepAction::Package(package))
}

#[tokio::test]
async fn an_apt_package_is_unpacked_without_root_and_a_wrong_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (conf, integrity) = repository(folder.path()).await;
    let bed = Bed::with_env(&[("APT_CONFIG", &conf)]).await;
    bed.prepare().await;
    let wrong = format!("sha256:{}", hex::encode(digest(&SHA256, b"else")));
    for (pinned, version, expected) in [
        (&wrong, "1.0-1", integrity.as_str()),
        (&integrity, "2.0-1", "is not fetched"),
    ] {
        let result = bed
            .gateway
            .run(bed.install(vec![apt(pinned, version)]))
            .await;
        assert_eq!(result.outcome(), Outcome::Failed, "{result:#?}");
        assert!(result.error.contains(expected), "{result:#?}");
        assert!(bed.files().is_empty(), "{:?}", bed.files());
    }

    let run = run_process("tool", "exec bin/bw-tool");
    for _ in 0..2 {
        let recipe = vec![apt(&integrity, "1.0-1"), run.clone(), wait_for("said")];
        bed.gateway.run_well(bed.install(recipe)).await;
    }
    let said = std::fs::read_to_string(bed.root().join("said")).unwrap();
    assert_eq!(said, "apt tool\n");
    assert!(
        !folder.path().join("postinst-ran").exists(),
        "a script of the package was run"
    );
    assert!(!Path::new("/usr/bin/bw-tool").exists());

    let uninstall = bed.command(Action::Uninstall(pb::Uninstall {}));
    bed.gateway.run_well(uninstall).await;
    assert!(!bed.root().exists() && bed.pids().is_empty());
}
