//! kill -9 of each part at bad moments: what runs goes on, what was begun ends, and nothing is done twice or left behind.

use std::time::Duration;

use rustix::process::Signal;

use super::scene::{Scene, on_both_kinds};
use crate::support::dev::signal;
use crate::support::wait::eventually;

on_both_kinds!(
    a_killed_node_process_is_started_again_and_the_events_say_so,
    a_killed_agent_is_down_after_three_misses_and_back_by_two_beats,
    a_host_killed_ten_times_while_it_provisions_ends_with_one_healthy_node,
    a_recipe_that_fails_for_good_is_undone_also_when_the_host_is_killed_meanwhile,
);

async fn a_killed_node_process_is_started_again_and_the_events_say_so(mut scene: Scene) {
    let node = scene.healthy().await;
    let dev = &scene.dev;
    let id = node["id"].as_str().unwrap();
    let before = dev.node_processes();
    signal(before[0], Signal::KILL);
    let after = eventually("another process", Duration::from_secs(30), async || {
        let now = dev.node_processes();
        (now.len() == 1 && now != before).then_some(now)
    })
    .await;
    assert_eq!(after.len(), 1);
    let events = eventually(
        "its restart among the events",
        Duration::from_secs(30),
        async || {
            let events = dev.get(&format!("nodes/{id}/events")).await;
            let kinds: Vec<String> = events["items"]
                .as_array()?
                .iter()
                .filter_map(|one| one["kind"].as_str().map(str::to_owned))
                .collect();
            kinds
                .contains(&"process_restarted".to_owned())
                .then_some(kinds)
        },
    )
    .await;
    assert!(events.contains(&"process_exited".to_owned()), "{events:?}");
    dev.healthy().await;
}

async fn a_killed_agent_is_down_after_three_misses_and_back_by_two_beats(scene: Scene) {
    let mut scene = scene.with_own_agent();
    scene.ask_for_a_node().await;
    let dev = &mut scene.dev;
    dev.kill_agent();
    dev.start().await;
    dev.start_agent().await;
    dev.healthy().await;
    let processes = dev.node_processes();
    assert_eq!(processes.len(), 1);

    dev.kill_agent();
    dev.node_when("down", Duration::from_mins(1), |node| {
        node["state"] == "down"
    })
    .await;
    assert_eq!(
        dev.node_processes(),
        processes,
        "the node runs on without its agent"
    );
    eventually("its incident", Duration::from_secs(20), async || {
        (dev.incidents("node_down").await.len() == 1).then_some(())
    })
    .await;

    dev.start_agent().await;
    dev.healthy().await;
    assert_eq!(
        dev.node_processes(),
        processes,
        "neither stopped nor started twice"
    );
    let resolved = eventually(
        "the incident is resolved",
        Duration::from_secs(20),
        async || {
            let incidents = dev.incidents("node_down").await;
            (incidents[0]["state"] == "resolved").then_some(incidents)
        },
    )
    .await;
    assert_eq!(resolved.len(), 1);
}

async fn a_host_killed_ten_times_while_it_provisions_ends_with_one_healthy_node(mut scene: Scene) {
    scene.ask_for_a_node().await;
    let dev = &mut scene.dev;
    // Pauses spread over the whole provisioning.
    let pauses_ms = [150, 420, 700, 950, 1_300, 1_700, 2_100, 2_600, 3_300, 4_100];
    for pause in pauses_ms {
        dev.spawn();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        dev.kill_host();
    }
    dev.start().await;
    let node = dev.healthy().await;
    let nodes = dev.get("nodes").await;
    assert_eq!(
        nodes["items"].as_array().unwrap().len(),
        1,
        "one node was made: {nodes:#}"
    );
    assert_eq!(dev.node_processes().len(), 1, "one process runs");
    assert_eq!(scene.n_folders(), 1, "one folder is there");
    let dev = &scene.dev;
    let id = node["id"].as_str().unwrap();
    let commands = dev.get(&format!("nodes/{id}/commands")).await;
    let kinds: Vec<&str> = commands["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["kind"].as_str())
        .collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "install").count(),
        1,
        "installed once: {kinds:?}"
    );
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "prepare").count(),
        1,
        "prepared once: {kinds:?}"
    );
}

async fn a_recipe_that_fails_for_good_is_undone_also_when_the_host_is_killed_meanwhile(
    mut scene: Scene,
) {
    scene.dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "tcp: 127.0.0.1:{{.Ports.rpc}}",
        "path: never-there",
    );
    scene.dev.edit(
        "recipes/anvil-devnet/full.yaml",
        "timeout: 30s\n    with:\n      path",
        "timeout: 3s\n    with:\n      path",
    );
    scene.ask_for_a_node().await;
    let dev = &mut scene.dev;
    for pause in [400, 900, 1_700, 2_800, 4_000] {
        dev.spawn();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        dev.kill_host();
    }
    dev.start().await;
    let node = dev
        .node_when("failed", Duration::from_secs(90), |node| {
            node["state"] == "failed"
        })
        .await;
    assert_eq!(dev.node_processes(), Vec::<u32>::new(), "nothing runs");
    assert_eq!(scene.n_folders(), 0, "nothing is left on disk");
    let dev = &scene.dev;
    let operation = dev
        .get(&format!(
            "operations/{}",
            node["operation_id"].as_str().unwrap()
        ))
        .await;
    assert_eq!(operation["state"], "failed");
    assert!(
        operation["error"]
            .as_str()
            .unwrap()
            .contains("wait-for-rpc"),
        "{operation:#}"
    );
    assert_eq!(dev.incidents("provision_failed").await.len(), 1);
}
