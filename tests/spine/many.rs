//! Many nodes at once under kills of host and agent: each ends whole or not at all, and nothing is left of those that failed.

use std::time::Duration;

use serde_json::{Value, json};

use super::scene::{Scene, on_both_kinds};
use super::toy;
use crate::support::dev::Dev;
use crate::support::exhaustive::Extent;

/// Nodes in all, in the default and in the exhaustive suite; the last step of every fifth can't succeed.
const NODES: usize = 60;
const ALL_NODES: usize = 200;
/// Nodes that are asked for between two kills while they are asked for.
const BATCH: usize = 20;
/// Kills after all were asked for, in the default and in the exhaustive suite.
const KILLS: usize = 4;
const ALL_KILLS: usize = 10;

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

on_both_kinds!(many_provisions_under_kills_each_end_healthy_or_failed);

async fn many_provisions_under_kills_each_end_healthy_or_failed(scene: Scene) {
    let mut scene = scene.served();
    let database = scene.database();
    let dev = &mut scene.dev;
    let data = json!({ "name": "data", "type": "wait_for", "with": { "path": "data" } });
    let never = json!({ "name": "never", "type": "wait_for", "timeout": "1s", "with": { "path": "never" } });
    toy::declare(dev, "toy", &data);
    toy::declare(dev, "broken", &never);
    dev.be_patient();
    let (is_migrated, said) = dev.command(&["migrate"]);
    assert!(is_migrated, "{said}");
    dev.start().await;
    dev.start_agent().await;

    let extent = Extent::of_this_run();
    let n_nodes = extent.amount(NODES, ALL_NODES);
    // Each slice of the exhaustive suite kills at other moments.
    let mut wild = Wild(20_261_124 + extent.seed());
    for n in 0..n_nodes {
        let chain = if n % 5 == 4 { "broken" } else { "toy" };
        let wanted = json!({ "chain": chain, "name": format!("n{n:03}") });
        dev.post("nodes", &wanted).await;
        if n % BATCH == BATCH - 1 {
            kill_one(dev, &mut wild).await;
        }
    }
    for _ in 0..extent.amount(KILLS, ALL_KILLS) {
        kill_one(dev, &mut wild).await;
    }

    let mut left = Vec::new();
    let is_over = |node: &Value| node["state"] == "healthy" || node["state"] == "failed";
    let ended = tokio::time::timeout(Duration::from_mins(4), async {
        loop {
            if let Some(nodes) = toy::all_nodes(dev).await {
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
    assert_eq!(nodes.len(), n_nodes, "each was made once");
    for node in &nodes {
        let wanted = if node["chain"] == "toy" {
            "healthy"
        } else {
            "failed"
        };
        assert_eq!(node["state"], wanted, "{node:#}");
    }
    toy::nothing_is_left_over(dev, &nodes).await;
    toy::nothing_is_left_in(&database, &nodes).await;
}
