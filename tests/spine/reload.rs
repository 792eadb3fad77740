//! Reloading a policy on a live fleet: taken over as a whole or not at all, and never a reason for a message.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::dev::{Dev, signal};
use crate::support::wait::eventually;

const OBSERVATION: &str = "chains/anvil-devnet/observation.yaml";

async fn policy(dev: &Dev) -> Value {
    let plugins = dev.get("plugins").await;
    let all = plugins["items"]
        .as_array()
        .unwrap_or_else(|| plugins.as_array().unwrap());
    all.iter()
        .find(|plugin| plugin["plugin"] == "progress")
        .unwrap()
        .clone()
}

async fn generation(dev: &Dev) -> i64 {
    policy(dev).await["active"]["generation"].as_i64().unwrap()
}

#[tokio::test]
async fn a_hundred_reloads_lose_no_evaluation_and_leave_an_open_incident_alone() {
    let mut dev = Dev::new(&[]);
    dev.edit(OBSERVATION, "every: 5s", "every: 1s");
    dev.start().await;
    dev.healthy().await;
    let pid = dev.node_processes()[0];
    signal(pid, Signal::STOP);
    dev.node_when("critical", Duration::from_mins(1), |node| {
        node["application_health"] == "critical"
    })
    .await;
    let opened = eventually("the incident", Duration::from_secs(20), async || {
        dev.incidents("node_critical").await.pop()
    })
    .await;

    let first = generation(&dev).await;
    let mut stalled_after = 15;
    for _ in 0..100 {
        let next = if stalled_after == 15 { 14 } else { 15 };
        let from = format!("stalled_after_s: {stalled_after}");
        dev.edit(OBSERVATION, &from, &format!("stalled_after_s: {next}"));
        dev.post("plugins/reload", &Value::Null).await;
        stalled_after = next;
    }
    let last = generation(&dev).await;
    assert!(last >= first + 100, "from generation {first} to {last}");

    let incidents = dev.incidents("node_critical").await;
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["id"], opened["id"]);
    assert_eq!(incidents[0]["state"], "open");
    assert_eq!(
        incidents[0]["occurrences"], opened["occurrences"],
        "not repeated"
    );
    assert_eq!(
        dev.incidents("policy_error").await.len(),
        0,
        "every evaluation was answered"
    );
    let node = dev.node().await.unwrap();
    assert_eq!(node["application_health"], "critical");
    signal(pid, Signal::CONT);
    dev.healthy().await;
}

#[tokio::test]
async fn a_bad_change_is_rejected_with_its_reason_and_the_old_one_goes_on() {
    let mut dev = Dev::new(&[]);
    dev.start().await;
    dev.healthy().await;
    let before = generation(&dev).await;

    // The file is watched: nobody asks for the reload.
    dev.edit(OBSERVATION, "stalled_after_s: 15", "stalled_after_s: soon");
    let reason = eventually("the rejection", Duration::from_secs(30), async || {
        let plugin = policy(&dev).await;
        let revisions = plugin["revisions"].as_array()?.clone();
        let rejected = revisions
            .into_iter()
            .find(|revision| revision["state"] == "rejected")?;
        Some(rejected["reason"].as_str().unwrap_or_default().to_owned())
    })
    .await;
    assert!(reason.contains("stalled_after_s"), "{reason}");
    assert_eq!(generation(&dev).await, before, "the old revision goes on");
    assert_eq!(dev.incidents("config_rejected").await.len(), 1);
    dev.healthy().await;

    dev.edit(OBSERVATION, "stalled_after_s: soon", "stalled_after_s: 20");
    eventually("the next revision", Duration::from_secs(30), async || {
        (generation(&dev).await > before).then_some(())
    })
    .await;
    eventually(
        "the end of the incident",
        Duration::from_secs(20),
        async || (dev.incidents("config_rejected").await[0]["state"] == "resolved").then_some(()),
    )
    .await;
}
