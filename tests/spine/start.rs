//! The first command of the README, its end by Ctrl-C, and its second start.

use std::time::Duration;

use crate::support::dev::Dev;

#[tokio::test]
async fn a_first_start_shows_a_healthy_node_with_rising_height_within_a_minute() {
    let mut dev = Dev::new(&[]);
    dev.compile_plugins();
    let started = tokio::time::timeout(Duration::from_mins(1), async {
        dev.start().await;
        let node = dev.healthy().await;
        let height = node["observations"]["node.height"]["value"].as_i64();
        dev.node_when("higher", Duration::from_secs(30), |node| {
            node["observations"]["node.height"]["value"].as_i64() > height && height.is_some()
        })
        .await
    });
    let node = started.await.expect("a minute is enough");
    assert_eq!(node["application_health"], "ok");
    assert_eq!(node["sync_status"], "synced");
    let key = std::fs::metadata(dev.path(".bellwether/admin-key")).unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777,
        0o600
    );
}

#[tokio::test]
async fn ctrl_c_ends_cleanly_and_a_second_start_goes_on_with_the_same_process() {
    let mut dev = Dev::new(&[]);
    dev.start().await;
    let before = dev.healthy().await;
    let processes = dev.node_processes();
    assert_eq!(processes.len(), 1, "{processes:?}");
    assert!(dev.interrupt_host().await, "{}", dev.log());
    assert_eq!(dev.node_processes(), processes, "kept nodes go on running");

    dev.start().await;
    let after = dev
        .node_when(
            "healthy and measured anew",
            Duration::from_mins(1),
            |node| {
                let at = |node: &serde_json::Value| {
                    node["observations"]["node.height"]["at"]
                        .as_str()
                        .map(str::to_owned)
                };
                node["display_state"] == "healthy" && at(node) > at(&before)
            },
        )
        .await;
    assert_eq!(after["id"], before["id"]);
    assert_eq!(dev.node_processes(), processes);
}

#[tokio::test]
async fn nodes_go_with_the_host_when_it_is_told_so() {
    let mut dev = Dev::new(&["--on-exit", "terminate"]);
    dev.start().await;
    dev.healthy().await;
    assert!(dev.interrupt_host().await, "{}", dev.log());
    assert_eq!(dev.node_processes(), Vec::<u32>::new());
    let left = std::fs::read_dir(dev.path(".bellwether/agent/nodes")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing of the node is left on disk");
}

#[tokio::test]
async fn a_second_node_of_a_development_chain_is_healthy_beside_the_first() {
    let mut dev = Dev::new(&[]);
    dev.start().await;
    let first = dev.healthy().await;
    // Far enough ahead that a policy that compares them would say so.
    dev.node_when("ahead", Duration::from_mins(1), |node| {
        node["observations"]["node.height"]["value"].as_i64() > Some(20)
    })
    .await;
    let body = serde_json::json!({ "chain": "anvil-devnet", "node_type": "full" });
    let second = dev.post("nodes", &body).await["node_id"].clone();
    let path = format!("nodes/{}", second.as_str().unwrap());
    crate::support::wait::eventually(
        "the second is healthy",
        Duration::from_mins(1),
        async || (dev.try_get(&path).await?["display_state"] == "healthy").then_some(()),
    )
    .await;
    let first = dev
        .get(&format!("nodes/{}", first["id"].as_str().unwrap()))
        .await;
    assert_eq!(first["display_state"], "healthy");
}
