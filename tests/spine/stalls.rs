//! A node that stops making progress, in two ways, and the one message about each.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::dev::{Dev, signal};
use crate::support::wait::eventually;
use crate::support::webhooks::Webhooks;

/// Tells the host of a receiver; only loopback by number is granted.
pub(super) fn notify(dev: &Dev, hooks: &Webhooks) {
    let text = format!(
        "schema_version: \"1.0\"
plugins:
  webhook:
    component: components/webhook.wasm
    grants:
      http:
        - target: {url}
          addresses: [loopback]
receivers:
  - name: test
    plugin: webhook
    with:
      url: {url}/hook
routes:
  - name: all
    receiver: test
    group_wait: 0s
",
        url = hooks.url
    );
    dev.write("notifications/default.yaml", &text);
}

fn is_stalled(node: &Value) -> bool {
    let reasons = node["reasons"].as_array().into_iter().flatten();
    node["application_health"] == "critical"
        && reasons
            .clone()
            .any(|reason| reason["code"] == "height_stalled")
}

/// After a while in which another message would have come, there are only these.
async fn only(hooks: &Webhooks, statuses: &[&str]) {
    eventually(
        &format!("the messages {statuses:?}"),
        Duration::from_secs(20),
        async || (hooks.statuses().len() >= statuses.len()).then_some(()),
    )
    .await;
    // Three rounds of the dispatcher and of the evaluator.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(hooks.statuses(), statuses);
}

#[tokio::test]
async fn a_node_that_stalls_is_one_incident_and_one_message_and_its_recovery_one_more() {
    let hooks = Webhooks::listen().await;
    let mut dev = Dev::new(&[]);
    notify(&dev, &hooks);
    dev.start().await;
    let node = dev.healthy().await;
    let pid = dev.node_processes()[0];

    // Frozen: nothing answers.
    signal(pid, Signal::STOP);
    dev.node_when("critical", Duration::from_mins(1), is_stalled)
        .await;
    only(&hooks, &["firing"]).await;
    let incidents = dev.incidents("node_critical").await;
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    signal(pid, Signal::CONT);
    dev.healthy().await;
    only(&hooks, &["firing", "resolved"]).await;

    // It answers, but no block comes.
    let rpc = format!("http://127.0.0.1:{}", node["ports"]["rpc"]);
    mine_every(&rpc, 0).await;
    dev.node_when("critical", Duration::from_mins(1), is_stalled)
        .await;
    only(&hooks, &["firing", "resolved", "firing"]).await;
    let incidents = dev.incidents("node_critical").await;
    assert_eq!(
        incidents.len(),
        1,
        "it recurred within ten minutes: {incidents:#?}"
    );
    mine_every(&rpc, 1).await;
    dev.healthy().await;
    only(&hooks, &["firing", "resolved", "firing", "resolved"]).await;

    let keys: std::collections::BTreeSet<_> = hooks
        .received()
        .into_iter()
        .map(|one| one.idempotency_key.unwrap())
        .collect();
    assert_eq!(keys.len(), 4, "each message has a key of its own");
}

async fn mine_every(rpc: &str, seconds: u32) {
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "evm_setIntervalMining", "params": [seconds] });
    let answer = reqwest::Client::builder()
        .build()
        .unwrap()
        .post(rpc)
        .json(&call)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success());
}
