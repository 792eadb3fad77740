//! The `bellwether` command against a real host.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::bed::Bed;

/// The binary lies beside the folder of the test's own.
fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("bellwether");
    assert!(
        path.exists(),
        "{} is not built; test with --workspace",
        path.display()
    );
    path
}

async fn run(dir: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir).kill_on_drop(true);
    command
        .env_remove("BELLWETHER_HOST")
        .env_remove("BELLWETHER_KEY_FILE")
        .env("NO_PROXY", "*");
    let ended = tokio::time::timeout(Duration::from_mins(1), command.output()).await;
    let Output {
        status,
        stdout,
        stderr,
    } = ended.expect("the command ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A host whose folder the command finds by itself.
async fn bed() -> Bed {
    let bed = Bed::start().await;
    let state = bed.dir.path().join(".bellwether");
    std::fs::write(state.join("host"), bed.url("\n")).unwrap();
    std::fs::write(state.join("admin-key"), &bed.admin).unwrap();
    bed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_makes_lists_and_removes_a_node() {
    let bed = bed().await;
    let below = bed.dir.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    let (code, out, err) = run(
        &below,
        &[
            "node", "create", "--chain", "toy", "--type", "full", "--name", "alice",
        ],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("Node alice (") && out.contains("bellwether operation get"),
        "{out}"
    );
    let (code, out, err) = run(&below, &["node", "list"]).await;
    assert_eq!(code, 0, "{err}");
    let mut lines = out.lines();
    assert!(
        lines.next().unwrap().trim_start().starts_with("NAME"),
        "{out}"
    );
    let row = lines.next().unwrap();
    assert!(
        row.contains("alice") && row.contains("toy") && row.contains("provisioning"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "no colours without a terminal");
    let (code, out, err) = run(&below, &["node", "terminate", "alice"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is being removed"), "{out}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_apis_own_json() {
    let bed = bed().await;
    let accepted = bed.node("alice").await;
    let (code, out, err) = run(
        bed.dir.path(),
        &["node", "get", "alice", "--output", "json"],
    )
    .await;
    assert_eq!(code, 0, "{err}");
    let node: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(node["id"], accepted["node_id"]);
    for noun in ["node", "incident", "plugin", "chain", "agent"] {
        let (code, out, err) = run(bed.dir.path(), &[noun, "list", "--output", "json"]).await;
        assert_eq!(code, 0, "{noun}: {err}");
        let list: Value = serde_json::from_str(&out).unwrap();
        assert!(list.is_array(), "{noun}: {out}");
        let (code, _, err) = run(bed.dir.path(), &[noun, "list"]).await;
        assert_eq!(code, 0, "{noun}: {err}");
    }
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do_and_have_their_exit_code() {
    let bed = bed().await;
    let dir = bed.dir.path();
    let (code, _, err) = run(dir, &["node", "get", "nobody"]).await;
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("nobody") && err.contains("`list`"), "{err}");
    let (code, _, err) = run(dir, &["node", "create", "--chain", "nowhere"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("/chain"), "{err}");
    std::fs::write(dir.join("bad-key"), "bw_live_bad").unwrap();
    let (code, _, err) = run(dir, &["node", "list", "--key-file", "bad-key"]).await;
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("BELLWETHER_KEY_FILE"), "{err}");
    let (code, _, err) = run(dir, &["node", "list", "--host", "http://127.0.0.1:1"]).await;
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("`bellwether dev`"), "{err}");
    let elsewhere = tempfile::tempdir().unwrap();
    let (code, _, err) = run(elsewhere.path(), &["node", "list"]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("BELLWETHER_HOST"), "{err}");
    bed.stop().await;
}
