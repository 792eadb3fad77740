//! Collectors at an agent, which has its secrets from a file of its own.

use std::time::Duration;

use host_store::{Db, DbOptions, PluginKvScope};
use serde_json::{Value, json};

use super::canary::{canary, files_with};
use crate::plugins::support::guest;
use crate::support::dev::Dev;
use crate::support::echo::Echo;
use crate::support::wait::eventually;

const LIMIT: Duration = Duration::from_secs(90);

/// A chain whose node is a file that is followed, with a collector that uses a secret and keeps state.
fn declare(dev: &Dev, url: &str) {
    for component in ["keeper", "hostile-policy"] {
        let path = format!("chain-configs/components/{component}.wasm");
        std::fs::write(dev.path(&path), guest(component)).unwrap();
    }
    let version = json!("1.0");
    let local = json!({ "instance_type": "x", "default_region": "r", "regions": ["r"] });
    let node_type = json!({
        "resources": { "cpu": 1, "memory_gb": 1, "disk_gb": 1 },
        "default_providers": ["local"], "providers": { "local": local },
    });
    let keeper = json!({
        "component": "components/keeper.wasm",
        "grants": { "http": [{ "target": url }], "secrets": ["node-token"], "kv": true },
        "config": { "act": "send", "url": url, "secret": "node-token", "form": "bearer" },
        "limits": { "cpu": "5s" },
    });
    let good =
        json!({ "component": "components/hostile-policy.wasm", "config": { "act": "behave" } });
    let profile = json!({
        "schema_version": version, "chain_id": "kept", "display_name": "kept",
        "network_type": "devnet", "chain_type": "toy", "node_types": { "full": node_type },
        "plugins": { "keeper": keeper, "good": good },
    });
    let runtime = json!({ "schema_version": version, "process": { "command": "bin/toyd" } });
    let policy =
        json!({ "name": "good", "plugin": "good", "window": "1m", "every": "1s", "for": "0s" });
    let collector = json!({ "name": "keeper", "plugin": "keeper", "every": "1s" });
    let observation = json!({
        "schema_version": version, "collectors": [collector], "policies": [policy],
        "observations": {
            "node.height": { "kind": "counter", "unit": "blocks", "summary": "Height." },
            "keeper.calls": { "kind": "counter", "unit": "calls", "summary": "Calls." },
            "keeper.answer": { "kind": "state", "summary": "Answer." },
        },
    });
    let recipe = json!({ "schema_version": version, "steps": [
        { "name": "program", "type": "file", "with": {
            "path": "bin/toyd", "mode": "0750", "content": "#!/bin/sh\nexec tail -f \"$0\"\n" } },
        { "name": "run", "type": "process", "with": { "name": "toyd" } },
    ] });
    for (file, content) in [
        ("chains/kept/runtime.yaml", runtime),
        ("chains/kept/observation.yaml", observation),
        ("recipes/kept/full.yaml", recipe),
        ("chains/kept/profile.yaml", profile),
    ] {
        let path = dev.path("chain-configs").join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // JSON is YAML.
        dev.write(file, &content.to_string());
    }
}

/// The calls that the collector counted.
fn calls(echo: &Echo) -> Vec<u64> {
    let pairs = echo.headers("authorization", "x-calls");
    pairs
        .iter()
        .map(|(_, calls)| calls.parse().unwrap())
        .collect()
}

async fn counts_beyond(echo: &Echo, n: u64) {
    eventually("the collector counts on", LIMIT, async || {
        (*calls(echo).last()? > n).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_collector_uses_the_agents_secret_and_its_state_outlives_kills_and_goes_with_the_node() {
    let echo = Echo::listen().await;
    let mut dev = Dev::serve_embedded();
    declare(&dev, &echo.url);
    dev.be_patient();
    dev.start().await;
    dev.start_agent().await;
    let made = dev
        .post("nodes", &json!({ "chain": "kept", "name": "one" }))
        .await;
    let node = made["node_id"].as_str().unwrap().to_owned();

    // The host has no value either, and does not need one.
    let error = eventually("the agent reports the missing secret", LIMIT, async || {
        let incidents = dev.incidents("plugin_error").await;
        Some(incidents.first()?.to_string())
    })
    .await;
    for text in [
        "`grants.secrets[0]`: the secret `node-token` has no value: `secrets.node-token` is not set",
        "the plugin `keeper`",
        "settings file",
    ] {
        assert!(error.contains(text), "{error}");
    }
    dev.kill_agent();
    let (token, secret) = (dev.path("node-token"), canary());
    std::fs::write(&token, &secret).unwrap();
    let settings = format!("secrets:\n  node-token: {{file: {}}}\n", token.display());
    std::fs::write(dev.path("agent/agent.yaml"), settings).unwrap();
    dev.start_agent().await;
    counts_beyond(&echo, 2).await;
    let sent = echo.headers("authorization", "x-calls");
    assert!(
        sent.iter()
            .all(|(header, _)| *header == format!("Bearer {secret}")),
        "{sent:?}"
    );

    for _ in 0..3 {
        dev.kill_agent();
        let last = *calls(&echo).last().unwrap();
        dev.start_agent().await;
        counts_beyond(&echo, last).await;
    }
    let all = calls(&echo);
    assert!(all.is_sorted_by(|one, next| one < next), "{all:?}");
    let state = dev.path(&format!("agent/nodes/{node}/run/kv/keeper.json"));
    assert!(state.is_file());

    // What the host's plugins keep for the node goes with it, too.
    let url = format!(
        "sqlite://{}",
        dev.path(".bellwether/bellwether.db").display()
    );
    let db = Db::open(&url, &DbOptions::default()).await.unwrap();
    let scope = PluginKvScope {
        plugin: "some",
        node: &node,
    };
    let mut tx = db.begin().await.unwrap();
    tx.set_plugin_kv(scope, "k", b"v").await.unwrap();
    tx.commit().await.unwrap();
    dev.node_when("healthy", LIMIT, |node| node["state"] == "healthy")
        .await;
    dev.post(&format!("nodes/{node}/terminate"), &Value::Null)
        .await;
    dev.node_when("terminated", LIMIT, |node| node["state"] == "terminated")
        .await;
    assert!(!dev.path(&format!("agent/nodes/{node}")).exists());
    assert_eq!(db.plugin_kv(scope, "k").await.unwrap(), None);
    db.close().await;

    let found = files_with(&dev.path(""), &secret, &[token]);
    assert!(found.is_empty(), "{found:?}");
}
