//! A node with a key moves away from an agent that is cut off while its process lives, and back from nowhere: the key is
//! at work in one place at a time, by what the processes themselves write down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::dev::{Dev, signal};
use crate::support::proxy::Proxy;
use crate::support::signer;
use crate::support::wait::eventually;

const MIGRATION: &str =
    "migration: {grace: 6s, settle: 2s, lease: 4s, lease_margin: 1s, cooldown: 1h}\n";
/// Down, grace, fence, installation and settling, on a busy machine.
const MOVED: Duration = Duration::from_mins(3);

/// How the first agent is lost.
#[derive(Clone, Copy)]
enum Loss {
    /// Its network is dead, and it works on.
    CutOff,
    /// It hangs.
    Frozen,
    /// It is killed, and what it started lives on.
    Killed,
}

/// What the signer of an agent wrote down.
fn signed(agent: &Path) -> Vec<(u128, String)> {
    signer::signed(&agent.join("signer.log"))
}

async fn host_of(dev: &Dev) -> Option<String> {
    let node = dev.node().await?;
    node["placement"]["machine_id"].as_str().map(str::to_owned)
}

async fn kinds(dev: &Dev) -> Vec<Value> {
    let operations = dev.get("operations").await;
    let items = operations["items"].as_array().unwrap().iter();
    items
        .filter(|operation| operation["kind"] == "migrate_node")
        .cloned()
        .collect()
}

/// A host, a node with a key at the first of two agents, and the way between that agent and the host.
struct Fleet {
    dev: Dev,
    proxy: Proxy,
    first: PathBuf,
    second: PathBuf,
}

impl Fleet {
    async fn start() -> Self {
        let mut dev = Dev::serve("sqlite://host.db");
        let path = dev.path("bellwether.yaml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, config + MIGRATION).unwrap();
        signer::let_nodes_sign(&dev);
        dev.start().await;
        let gateway = dev.gateway().await;
        let proxy = Proxy::to(gateway.rsplit('/').next().unwrap()).await;
        dev.start_agent_of("local", &format!("https://{}", proxy.address))
            .await;
        dev.start_agent_of("second", &gateway).await;
        dev.post("nodes", &json!({ "chain": "anvil-devnet" })).await;
        dev.healthy().await;
        let (first, second) = (dev.path("agent-local"), dev.path("agent-second"));
        Self {
            dev,
            proxy,
            first,
            second,
        }
    }

    async fn lose(&mut self, loss: Loss) {
        match loss {
            Loss::CutOff => self.proxy.cut(),
            Loss::Frozen => signal(self.dev.agent_pid("local"), Signal::STOP),
            Loss::Killed => self.dev.kill_agent_of("local"),
        }
        let before = signed(&self.first).len();
        eventually("the process lives on", Duration::from_secs(5), async || {
            (signed(&self.first).len() > before + 5).then_some(())
        })
        .await;
    }

    async fn find_again(&mut self, loss: Loss) {
        match loss {
            Loss::CutOff => self.proxy.mend(),
            Loss::Frozen => signal(self.dev.agent_pid("local"), Signal::CONT),
            Loss::Killed => {
                let way = format!("https://{}", self.proxy.address);
                self.dev.start_agent_of("local", &way).await;
            }
        }
    }
}

async fn a_node_moves_away(loss: Loss) {
    let mut fleet = Fleet::start().await;
    let node = fleet.dev.node().await.unwrap();
    let (id, source) = (node["id"].as_str().unwrap(), host_of(&fleet.dev).await);
    assert!(signed(&fleet.second).is_empty());
    fleet.lose(loss).await;
    eventually("the migration succeeds", MOVED, async || {
        let moves = kinds(&fleet.dev).await;
        (moves.first()?["state"] == "succeeded").then_some(())
    })
    .await;
    assert_ne!(host_of(&fleet.dev).await, source);
    let node = fleet.dev.node().await.unwrap();
    assert_eq!(node["display_state"], "healthy", "{node:#}");

    // Back again: its assignment is gone, so it starts nothing and removes what it has.
    fleet.find_again(loss).await;
    let folder = fleet.first.join("nodes").join(id);
    eventually("the old host removes the node", MOVED, async || {
        (!folder.exists()).then_some(())
    })
    .await;
    let log = |agent: &Path| agent.join("signer.log");
    signer::signed_one_after_the_other(&log(&fleet.first), &log(&fleet.second));
    assert_eq!(kinds(&fleet.dev).await.len(), 1);
    assert_eq!(
        fleet.dev.incidents("migration_failed").await,
        [] as [Value; 0]
    );
}

#[tokio::test]
async fn a_node_with_a_key_moves_away_from_an_agent_that_is_cut_off() {
    a_node_moves_away(Loss::CutOff).await;
}

#[tokio::test]
async fn a_node_with_a_key_moves_away_from_an_agent_that_hangs() {
    a_node_moves_away(Loss::Frozen).await;
}

#[tokio::test]
async fn a_node_with_a_key_moves_away_from_an_agent_that_was_killed() {
    a_node_moves_away(Loss::Killed).await;
}

#[tokio::test]
async fn a_migration_that_is_cancelled_leaves_the_node_where_it_was_and_running() {
    let mut fleet = Fleet::start().await;
    let source = host_of(&fleet.dev).await;
    fleet.lose(Loss::CutOff).await;
    let operation = eventually("the old host is fenced", MOVED, async || {
        let operation = kinds(&fleet.dev).await.pop()?;
        let is_fencing =
            |step: &Value| step["name"] == "fence_source" && step["state"] == "running";
        let steps = operation["steps"].as_array()?;
        steps
            .iter()
            .any(is_fencing)
            .then(|| operation["id"].as_str().unwrap().to_owned())
    })
    .await;
    let path = format!("operations/{operation}/cancel");
    fleet.dev.post(&path, &Value::Null).await;
    let path = format!("operations/{operation}");
    eventually("it is undone", MOVED, async || {
        let operation = fleet.dev.get(&path).await;
        (operation["state"] == "cancelled").then_some(())
    })
    .await;
    assert_eq!(host_of(&fleet.dev).await, source);
    fleet.find_again(Loss::CutOff).await;
    fleet.dev.healthy().await;
    let before = signed(&fleet.first).len();
    eventually("the process runs again", MOVED, async || {
        (signed(&fleet.first).len() > before).then_some(())
    })
    .await;
    assert_eq!(
        signed(&fleet.second),
        [],
        "the other host never had the key at work"
    );
    assert_eq!(
        fleet.dev.incidents("migration_failed").await,
        [] as [Value; 0]
    );
}
