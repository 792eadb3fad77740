//! A chain whose nodes cost nothing, and the count of everything that may be left of them.

use std::collections::BTreeSet;
use std::time::Duration;

use host_store::{Db, DbOptions};
use serde_json::{Value, json};

use crate::plugins::support::guest;
use crate::support::dev::{Dev, processes_with};
use crate::support::wait::eventually;

/// A chain whose node is a file that is followed: a process of its own that costs nothing.
pub(super) fn declare(dev: &Dev, chain: &str, last_step: &Value) {
    let component = dev.path("chain-configs/components/hostile-policy.wasm");
    std::fs::write(component, guest("hostile-policy")).unwrap();
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

/// Every node; nothing while the host is away.
pub(super) async fn all_nodes(dev: &Dev) -> Option<Vec<Value>> {
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

/// Processes, folders and keys are those of the nodes that live, and no workflow or command is unfinished.
pub(super) async fn nothing_is_left_over(dev: &Dev, nodes: &[Value]) {
    let living = nodes.iter().filter(|node| node["state"] == "healthy");
    only_these_are_at(dev, "agent", &living.map(id_of).collect());
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

/// The id of a node.
pub(super) fn id_of(node: &Value) -> String {
    node["id"].as_str().unwrap().to_owned()
}

/// The nodes that have a folder at an agent.
pub(super) fn folders(dev: &Dev, agent: &str) -> BTreeSet<String> {
    let folder = dev.path(agent).join("nodes");
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// How many processes of nodes an agent has.
pub(super) fn n_processes(dev: &Dev, agent: &str) -> usize {
    let folder = dev.path(agent).join("nodes");
    processes_with(&folder.display().to_string(), "tail").len()
}

/// What an agent has are the folders and the processes of these nodes, one process each.
pub(super) fn only_these_are_at(dev: &Dev, agent: &str, nodes: &BTreeSet<String>) {
    assert_eq!(
        folders(dev, agent),
        *nodes,
        "the folders are those of the living"
    );
    let folder = dev.path(agent).join("nodes");
    for id in nodes {
        let of_node = folder.join(id).join("bin/toyd").display().to_string();
        let n_processes = processes_with(&of_node, "tail").len();
        assert_eq!(n_processes, 1, "one process for {id}");
    }
    assert_eq!(
        n_processes(dev, agent),
        nodes.len(),
        "no other process runs"
    );
}

/// A living node has its key, one that failed has none, and no command is unfinished.
pub(super) async fn nothing_is_left_in(database: &str, nodes: &[Value]) {
    let db = Db::open(database, &DbOptions::default()).await.unwrap();
    for node in nodes {
        let id = node["id"].as_str().unwrap().parse().unwrap();
        let n_keys = db.node_keys(id).await.unwrap().len();
        assert_eq!(n_keys, usize::from(node["state"] == "healthy"), "{node:#}");
        assert_eq!(db.n_unfinished_commands(id).await.unwrap(), 0, "{node:#}");
    }
    db.close().await;
}
