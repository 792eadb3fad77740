//! The `bellwether` command against a real host.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use host_wire::state_folder::{ADMIN_KEY, HOST_URL, STATE_FOLDER};
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use super::bed::Bed;
use super::dead_letters::PUT_ASIDE;
use crate::support::wait::{WAIT_MAX, eventually};

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
    let state = bed.dir.path().join(STATE_FOLDER);
    std::fs::write(state.join(HOST_URL), bed.url("\n")).unwrap();
    std::fs::write(state.join(ADMIN_KEY), &bed.admin).unwrap();
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
    assert!(out.contains("is being terminated"), "{out}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_lists_what_was_put_aside_and_puts_it_back() {
    let bed = bed().await;
    let dir = bed.dir.path();
    let (code, out, err) = run(dir, &["dead-letter", "list"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("There are no dead letters."), "{out}");
    bed.node("alice").await;
    bed.sql("bellwether.db", PUT_ASIDE).await;
    let (code, out, err) = run(dir, &["dead-letter", "list"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("alice") && out.contains("it broke"), "{out}");
    let id = "01920000-0000-7000-8000-000000000002";
    let (code, out, err) = run(dir, &["dead-letter", "requeue", id]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is requeued"), "{out}");
    let listed = ["dead-letter", "list", "--output", "json"];
    let (_, out, _) = run(dir, &listed).await;
    assert!(!out.contains(id), "{out}");
    let (code, _, err) = run(dir, &["dead-letter", "requeue", "no-id"]).await;
    assert_ne!(code, 0, "{err}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_makes_pays_and_cancels_a_subscription() {
    let bed = bed().await;
    let subscription = async |arguments: &[&str]| {
        let (code, out, err) = run(bed.dir.path(), &[&["subscription"], arguments].concat()).await;
        assert_eq!(code, 0, "{out}{err}");
        out
    };
    let create = ["create", "--chain", "toy", "--duration", "30d"];
    let made = subscription(&create).await;
    assert!(made.contains("awaits its payment"), "{made}");
    assert_eq!(subscription(&create).await, made, "the same one");
    let id = made.split(' ').nth(1).unwrap();
    let listed = subscription(&["list", "--state", "pending_payment"]).await;
    assert!(listed.contains(id) && listed.contains("30d"), "{listed}");
    let paid = subscription(&["record-payment", id, "invoice-1"]).await;
    assert!(paid.contains("is paid until"), "{paid}");
    assert!(paid.contains("bellwether operation get"), "{paid}");
    let shown = subscription(&["get", id]).await;
    assert!(
        shown.contains("active") && shown.contains("invoice-1"),
        "{shown}"
    );
    let over = subscription(&["cancel", id]).await;
    assert!(over.contains("is cancelled and runs until"), "{over}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_node_that_is_still_being_made_is_done_when_it_is_undone() {
    let bed = bed().await;
    bed.node("alice").await;
    let (code, out, err) = run(bed.dir.path(), &["node", "terminate", "alice", "--wait"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("its creation was still running")
            && out.contains("`failed` and its data is deleted"),
        "{out}"
    );
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_node_sees_over_a_restart_of_the_host_to_its_end() {
    let bed = bed().await;
    let dir = bed.dir.path().to_owned();
    let node = bed.node("alice").await;
    let (id, operation) = (&node["node_id"], node["operation"]["id"].as_str().unwrap());
    let arguments = ["node", "watch", "alice", "--output", "json"];
    let watching = tokio::spawn(async move { run(&dir, &arguments).await });
    // It has to be there before the host goes: once its stream has begun, the command looks at the node a second time.
    let looked =
        "http_requests_total{method=\"GET\",route=\"/api/v1/nodes/{node}\",status=\"200\"} 2";
    eventually("the command watches", WAIT_MAX, async || {
        let metrics = bed.bare(Method::GET, "/metrics").send().await.ok()?;
        let text = metrics.text().await.ok()?;
        text.contains(looked).then_some(())
    })
    .await;
    // The new host is found by its folder only when everything has happened already.
    let bed = bed.restart().await;
    let terminate = bed.request(Method::POST, "/api/v1/nodes/alice/terminate");
    assert_eq!(terminate.send().await.unwrap().status(), 202);
    let over = format!("/api/v1/operations/{operation}?wait=30s");
    assert_eq!(bed.get(&over).await["state"], "cancelled");
    let host = bed.dir.path().join(".bellwether/host");
    std::fs::write(host, bed.url("\n")).unwrap();
    let (code, out, err) = watching.await.unwrap();
    assert_eq!(code, 0, "{out}{err}");
    let events = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let events: Vec<Value> = events.collect();
    let seqs: Vec<i64> = events
        .iter()
        .map(|event| event["seq"].as_i64().unwrap())
        .collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "each once: {seqs:?}");
    assert!(events.iter().all(|event| event["node_id"] == *id), "{out}");
    let last = events.last().unwrap();
    assert_eq!(last["data"]["to"], "failed", "{out}");
    let undoing = |event: &Value| event["data"]["state"] == "undoing";
    assert!(events.iter().any(undoing), "nothing is missed: {out}");
    assert_eq!(err.matches("retrying until it does").count(), 1, "{err}");
    assert!(err.contains("Reconnected"), "{err}");
    bed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_creates_uses_and_revokes_an_api_key_and_reads_who_did_it() {
    let bed = bed().await;
    let dir = bed.dir.path();
    let create = ["api-key", "create", "ci@laptop", "--scope", "nodes:read"];
    let (code, token, err) = run(dir, &[&create[..], &["--expires-in", "90d"]].concat()).await;
    assert_eq!(code, 0, "{err}");
    assert!(token.starts_with("bw_live_") && token.lines().count() == 1);
    assert!(
        err.contains("can't show it again") && !err.contains("bw_live_"),
        "{err}"
    );
    std::fs::write(dir.join("ci-key"), &token).unwrap();
    let nodes = ["node", "list", "--key-file", "ci-key"];
    let (code, _, err) = run(dir, &nodes).await;
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = run(dir, &["api-key", "list", "--key-file", "ci-key"]).await;
    assert_ne!(code, 0, "it lacks the scope `admin`: {err}");
    let (code, out, err) = run(dir, &["api-key", "list", "--state", "active"]).await;
    assert_eq!(code, 0, "{err}");
    let row = out.lines().find(|line| line.contains("ci@laptop")).unwrap();
    assert!(
        row.contains("active") && row.contains("nodes:read"),
        "{out}"
    );
    assert!(!out.contains(token.trim()), "{out}");
    let (code, out, err) = run(dir, &["api-key", "revoke", "ci@laptop"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("is revoked"), "{out}");
    let (code, _, err) = run(dir, &nodes).await;
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("was revoked"), "{err}");
    let (code, _, err) = run(dir, &["api-key", "revoke", "admin"]).await;
    assert_ne!(code, 0, "the last one: {err}");
    let (code, out, err) = run(dir, &["audit", "list", "--object", "api_key"]).await;
    assert_eq!(code, 0, "{err}");
    let acts: Vec<&str> = out.lines().skip(1).collect();
    assert!(
        acts[0].contains("admin") && acts[0].contains("revoke_api_key"),
        "{out}"
    );
    assert!(acts[1].contains("create_api_key"), "{out}");
    let (code, out, err) = run(dir, &["audit", "list", "--actor", "nobody"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("no such entries"), "{out}");
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
    for noun in [
        "node",
        "subscription",
        "incident",
        "plugin",
        "chain",
        "agent",
        "api-key",
        "audit",
    ] {
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
    assert_eq!(err.matches("/chain").count(), 1, "stated once: {err}");
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
