//! Many nodes at once under kills of host and agent: each ends whole or not at all, and nothing is left of those that failed.

use std::collections::BTreeSet;
use std::time::Duration;

use host_server::store::{Db, DbOptions};
use serde_json::{Value, json};

use super::scene::{Scene, on_both_kinds};
use crate::plugins::support::guest;
use crate::support::dev::{Dev, processes_with};
use crate::support::wait::eventually;

/// Nodes in all; the last step of every fifth can't succeed.
const NODES: usize = 200;
/// Nodes that are asked for between two kills while they are asked for.
const BATCH: usize = 20;
/// Kills after all were asked for.
const KILLS: usize = 10;

/// A chain whose node is a file that is followed: a process of its own that costs nothing.
fn declare(dev: &Dev, chain: &str, last_step: &Value) {
    let version = json!("1.0");
    let local = json!({ "instance_type": "x", "default_region": "r", "regions": ["r"] });
    let node_type = json!({
        "resources": { "cpu": 1, "memory_gb": 1, "disk_gb": 1 },
        "default_providers": ["local"], "providers": { "local": local },
    });
    let good =
        json!({ "component": "components/hostile-policy.wasm", "config": { "act": "behave" } });
    let profile = json!({
        "schema_version": version, "chain_id": chain, "display_name": chain,
        "network_type": "devnet", "chain_type": "toy", "node_types": { "full": node_type },
        "keys": { "identity": { "algorithm": "ed25519", "path": "identity.key" } },
        "plugins": { "good": good },
    });
    let runtime = json!({ "schema_version": version, "paths": { "data": "data" }, "process": { "command": "bin/toyd" } });
    let policy =
        json!({ "name": "good", "plugin": "good", "window": "1m", "every": "1s", "for": "0s" });
    let observation = json!({
        "schema_version": version, "policies": [policy],
        "observations": { "node.height": { "kind": "counter", "unit": "blocks", "summary": "Height." } },
    });
    let recipe = json!({ "schema_version": version, "steps": [
        { "name": "folder", "type": "directory", "with": { "path": "{{.Paths.data}}" } },
        { "name": "key", "type": "key", "with": { "name": "identity" } },
        { "name": "program", "type": "file", "with": {
            "path": "bin/toyd", "mode": "0750", "content": "#!/bin/sh\nexec tail -f \"$0\"\n" } },
        { "name": "run", "type": "process", "with": { "name": "toyd" } },
        last_step,
    ] });
    for (file, content) in [
        (format!("chains/{chain}/runtime.yaml"), runtime),
        (format!("chains/{chain}/observation.yaml"), observation),
        (format!("recipes/{chain}/full.yaml"), recipe),
        (format!("chains/{chain}/profile.yaml"), profile),
    ] {
        let path = dev.path("chain-configs").join(&file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // JSON is YAML.
        dev.write(&file, &content.to_string());
    }
}

/// Numbers that are as wild in every run (xorshift, Marsaglia 2003).
struct Wild(u64);

impl Wild {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// kill -9 of the host, the agent or both, after a while.
async fn kill_one(dev: &mut Dev, wild: &mut Wild) {
    tokio::time::sleep(Duration::from_millis(100 + wild.below(1_500))).await;
    let which = wild.below(3);
    if which != 0 {
        dev.kill_agent();
    }
    if which != 1 {
        dev.restart_host().await;
    }
    if which != 0 {
        dev.start_agent().await;
    }
}

async fn all_nodes(dev: &Dev) -> Option<Vec<Value>> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = dev.try_get(&format!("nodes?limit=200{cursor}")).await?;
        all.extend(page["items"].as_array()?.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Some(all),
        }
    }
}

on_both_kinds!(two_hundred_provisions_under_kills_each_end_healthy_or_failed);

async fn two_hundred_provisions_under_kills_each_end_healthy_or_failed(scene: Scene) {
    let mut scene = scene.served();
    let database = scene.database();
    let dev = &mut scene.dev;
    let component = dev.path("chain-configs/components/hostile-policy.wasm");
    std::fs::write(component, guest("hostile-policy")).unwrap();
    let data = json!({ "name": "data", "type": "wait_for", "with": { "path": "data" } });
    let never = json!({ "name": "never", "type": "wait_for", "timeout": "1s", "with": { "path": "never" } });
    declare(dev, "toy", &data);
    declare(dev, "broken", &never);
    dev.be_patient();
    let (is_migrated, said) = dev.command(&["migrate"]);
    assert!(is_migrated, "{said}");
    dev.start().await;
    dev.start_agent().await;

    let mut wild = Wild(20_261_124);
    for n in 0..NODES {
        let chain = if n % 5 == 4 { "broken" } else { "toy" };
        let wanted = json!({ "chain": chain, "name": format!("n{n:03}") });
        dev.post("nodes", &wanted).await;
        if n % BATCH == BATCH - 1 {
            kill_one(dev, &mut wild).await;
        }
    }
    for _ in 0..KILLS {
        kill_one(dev, &mut wild).await;
    }

    let mut left = Vec::new();
    let is_over = |node: &Value| node["state"] == "healthy" || node["state"] == "failed";
    let ended = tokio::time::timeout(Duration::from_mins(4), async {
        loop {
            if let Some(nodes) = all_nodes(dev).await {
                left = nodes
                    .iter()
                    .filter(|node| !is_over(node))
                    .cloned()
                    .collect();
                if left.is_empty() {
                    return nodes;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    })
    .await;
    let Ok(nodes) = ended else {
        panic!(
            "{} of them did not end, among them {:#}\n{}",
            left.len(),
            left[0],
            dev.log()
        );
    };
    assert_eq!(nodes.len(), NODES, "each was made once");
    for node in &nodes {
        let wanted = if node["chain"] == "toy" {
            "healthy"
        } else {
            "failed"
        };
        assert_eq!(node["state"], wanted, "{node:#}");
    }
    nothing_is_left_over(dev, &nodes).await;
    nothing_is_left_in(&database, &nodes).await;
}

/// Processes, folders and keys are those of the nodes that live, and no workflow or command is unfinished.
async fn nothing_is_left_over(dev: &Dev, nodes: &[Value]) {
    let living: BTreeSet<String> = nodes
        .iter()
        .filter(|node| node["state"] == "healthy")
        .map(|node| node["id"].as_str().unwrap().to_owned())
        .collect();
    let folder = dev.path("agent/nodes");
    let folders: BTreeSet<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, living, "the folders are those of the living");
    for id in &living {
        let of_node = folder.join(id).join("bin/toyd").display().to_string();
        assert_eq!(
            processes_with(&of_node, "tail").len(),
            1,
            "one process for {id}"
        );
    }
    let all = processes_with(&folder.display().to_string(), "tail");
    assert_eq!(all.len(), living.len(), "no other process runs");
    for node in nodes {
        let id = node["operation_id"].as_str().unwrap();
        let operation = eventually("its operation ends", Duration::from_secs(30), async || {
            let operation = dev.try_get(&format!("operations/{id}")).await?;
            (operation["state"] != "running").then_some(operation)
        })
        .await;
        let wanted = if node["state"] == "healthy" {
            "succeeded"
        } else {
            "failed"
        };
        assert_eq!(operation["state"], wanted, "{operation:#}");
    }
}

/// A living node has its key, one that failed has none, and no command is unfinished.
async fn nothing_is_left_in(database: &str, nodes: &[Value]) {
    let db = Db::open(database, &DbOptions::default()).await.unwrap();
    for node in nodes {
        let id = node["id"].as_str().unwrap().parse().unwrap();
        let n_keys = db.node_keys(id).await.unwrap().len();
        assert_eq!(n_keys, usize::from(node["state"] == "healthy"), "{node:#}");
        assert_eq!(db.n_unfinished_commands(id).await.unwrap(), 0, "{node:#}");
    }
    db.close().await;
}
