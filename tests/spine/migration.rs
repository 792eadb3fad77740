//! A node with a key moves away from an agent that is cut off while its process lives, and back from nowhere: the key is
//! at work in one place at a time, by what the processes themselves write down.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::dev::{Dev, signal};
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;

/// Writes the time and its key's digest into the agent's folder, fifty times a second, and ends only when it is killed.
const SIGNER: &str = r"
  - {name: identity, type: key, with: {name: identity}}
  - name: write-signer
    type: file
    with:
      path: config/signer.sh
      content: |
        trap '' TERM
        key=$(sha256sum < config/identity.key | cut -c1-16)
        while :; do echo $(date +%s%N) $key >> ../../signer.log; sleep 0.02; done
  - name: start-signer
    type: process
    with: {name: signer, command: /bin/sh, args: [config/signer.sh]}
  - name: start-anvil
";
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

/// The lines of an agent's signer: when, and with which key.
fn signed(agent: &Path) -> Vec<(u128, String)> {
    let text = std::fs::read_to_string(agent.join("signer.log")).unwrap_or_default();
    let whole = text.lines().filter_map(|line| line.split_once(' '));
    // The newest line may be half written.
    let whole = whole.filter(|(_, key)| key.len() == 16);
    whole
        .map(|(at, key)| (at.parse().unwrap(), key.to_owned()))
        .collect()
}

async fn host_of(dev: &Dev) -> Option<String> {
    let node = dev.node().await?;
    node["placement"]["host_id"].as_str().map(str::to_owned)
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
        dev.edit(
            "chains/anvil-devnet/profile.yaml",
            "\nplugins:\n",
            "\nkeys:\n  identity: {algorithm: ed25519, path: config/identity.key}\nplugins:\n",
        );
        dev.edit(
            "recipes/anvil-devnet/full.yaml",
            "\n  - name: start-anvil\n",
            SIGNER,
        );
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
    let (before, after) = (signed(&fleet.first), signed(&fleet.second));
    let (last, first) = (before.last().unwrap(), after.first().unwrap());
    assert_eq!(last.1, first.1, "it is the same key");
    assert!(
        last.0 < first.0,
        "two processes with one key: {last:?} {first:?}"
    );
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
