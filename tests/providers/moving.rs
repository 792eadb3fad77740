//! Nodes that move from one machine to another by SSH, on two real servers: the key is at work in one place at a time, by what
//! the processes themselves write down, and what is left behind is clean before it is anybody's.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::user;
use crate::support::dev::{Dev, processes_with, signal};
use crate::support::proxy::Proxy;
use crate::support::signer::{let_nodes_sign, signed, signed_one_after_the_other};
use crate::support::sshd::Sshd;
use crate::support::wait::eventually;

const MIGRATION: &str =
    "migration: {grace: 6s, settle: 2s, lease: 4s, lease_margin: 1s, cooldown: 1h}\n";
/// Down, grace, fence, a machine, installation and settling, on a busy machine.
const MOVED: Duration = Duration::from_mins(3);

/// Two machines of one provider.
struct Machines {
    dev: Dev,
    gateway: u16,
    one: Sshd,
    two: Sshd,
}

impl Machines {
    /// `known_of_two` is the host key that the second one is held to.
    fn declared(one: Sshd, two: Sshd, known_of_two: &str) -> Self {
        let mut dev = Dev::new(&["--no-agent", "--no-node"]);
        let gateway = dev.fix_gateway();
        dev.edit(
            "chains/anvil-devnet/profile.yaml",
            "    providers:\n",
            "    providers:\n      racks: {instance_type: any, default_region: default, regions: [default]}\n",
        );
        let known_of_one = one.known_host();
        let machines = [
            ("one", &one, known_of_one.as_str()),
            ("two", &two, known_of_two),
        ];
        let declared = machines.map(|(name, sshd, known_host)| {
            json!({
                "name": name,
                "address": "127.0.0.1",
                "port": sshd.port,
                "user": user(),
                "key_file": sshd.path("user"),
                "known_host": known_host,
                "dir": sshd.path("machine/agent"),
            })
        });
        let racks = json!({
            "kind": "ssh",
            "gateway": format!("https://127.0.0.1:{gateway}"),
            "machines": declared,
        });
        dev.configure(&format!(
            "machine_providers: {}\n{MIGRATION}",
            json!({"racks": racks})
        ));
        Self {
            dev,
            gateway,
            one,
            two,
        }
    }

    /// Makes a node, which gets the first machine.
    async fn create(&self) -> Value {
        let wanted = json!({"chain": "anvil-devnet", "provider": "racks", "name": "mover"});
        self.dev.post("nodes", &wanted).await;
        let node = self.dev.healthy().await;
        assert_eq!(agents_on(&self.one).len(), 1);
        assert_eq!(agents_on(&self.two).len(), 0);
        node
    }

    /// Leads the first machine's way to the machine through a network that can fail.
    async fn detour(&self) -> Proxy {
        let proxy = Proxy::to(&format!("127.0.0.1:{}", self.gateway)).await;
        let run = self.one.path("machine/agent/run");
        let text = std::fs::read_to_string(&run).unwrap();
        let direct = format!("127.0.0.1:{}", self.gateway);
        assert!(text.contains(&direct), "{text}");
        let detour = proxy.address.to_string();
        std::fs::write(&run, text.replace(&direct, &detour)).unwrap();
        let agents = agents_on(&self.one);
        signal(agents[0], Signal::KILL);
        let folder = self.one.path("machine").display().to_string();
        eventually("it takes the detour", Duration::from_secs(30), async || {
            (processes_with(&folder, &detour).len() == 1).then_some(())
        })
        .await;
        proxy
    }

    async fn moves(&self) -> Vec<Value> {
        let operations = self.dev.get("operations").await;
        let items = operations["items"].as_array().unwrap().iter();
        let moves = items.filter(|operation| operation["kind"] == "migrate_node");
        moves.cloned().collect()
    }

    /// Waits for the end of the only migration.
    async fn moved(&self) -> Value {
        eventually("the migration's end", MOVED, async || {
            let operation = self.moves().await.pop()?;
            let is_over = ["succeeded", "failed"].contains(&operation["state"].as_str()?);
            is_over.then_some(operation)
        })
        .await
    }

    async fn incident(&self, category: &str, state: &str, limit: Duration) -> Value {
        eventually(&format!("{category} is {state}"), limit, async || {
            let incidents = self.dev.incidents(category).await;
            incidents
                .into_iter()
                .find(|incident| incident["state"] == state)
        })
        .await
    }
}

/// Agents that run on a machine.
fn agents_on(machine: &Sshd) -> Vec<u32> {
    let binary = machine.path("machine/agent/bin/bellwether-agent");
    processes_with(&binary.display().to_string(), "--state-dir")
}

#[tokio::test]
async fn a_node_with_a_key_moves_to_another_machine_and_the_old_one_is_free_when_it_was_cleaned() {
    let (one, two) = (Sshd::start().await, Sshd::start().await);
    let known = two.known_host();
    let mut machines = Machines::declared(one, two, &known);
    let_nodes_sign(&machines.dev);
    machines.dev.start().await;
    let before = machines.create().await;
    let proxy = machines.detour().await;
    // What it writes is kept when the machine is cleaned.
    let log = machines.one.path("signer.log");
    std::fs::hard_link(machines.one.path("machine/agent/state/signer.log"), &log).unwrap();

    proxy.cut();
    machines.one.stop();
    let n_before = signed(&log).len();
    eventually("the process lives on", Duration::from_secs(5), async || {
        (signed(&log).len() > n_before + 5).then_some(())
    })
    .await;
    let operation = machines.moved().await;
    assert_eq!(
        operation["state"],
        "succeeded",
        "{operation:#}\n{}",
        machines.dev.log()
    );
    let after = machines.dev.get("nodes/mover").await;
    assert_eq!(after["display_state"], "healthy", "{after:#}");
    assert_ne!(
        after["placement"]["machine_id"],
        before["placement"]["machine_id"]
    );
    assert_eq!(agents_on(&machines.two).len(), 1);
    let steps = operation["steps"].as_array().unwrap();
    let last = steps.last().unwrap()["message"].as_str().unwrap();
    assert!(last.contains("as soon as it can be reached"), "{last}");

    // The old machine is away and nobody's, and an operator knows.
    let told = machines
        .incident("machine_left_behind", "open", Duration::from_secs(40))
        .await;
    let why = told["reasons"][0]["message"].as_str().unwrap();
    assert!(why.contains("could not reach the machine `one`"), "{why}");
    assert!(machines.one.path("machine/agent").exists());

    // Back again: it starts nothing, is cleaned, and free.
    proxy.mend();
    machines.one.run().await;
    machines
        .incident("machine_left_behind", "resolved", Duration::from_secs(90))
        .await;
    let folder: PathBuf = machines.one.path("machine/agent");
    assert!(!folder.exists());
    assert_eq!(
        processes_with(&folder.display().to_string(), ""),
        Vec::<u32>::new()
    );
    let new_log = machines.two.path("machine/agent/state/signer.log");
    signed_one_after_the_other(&log, &new_log);
    assert_eq!(machines.moves().await.len(), 1);
    assert_eq!(
        machines.dev.incidents("migration_failed").await,
        [] as [Value; 0]
    );
    let wanted = json!({"chain": "anvil-devnet", "provider": "racks", "name": "next"});
    machines.dev.post("nodes", &wanted).await;
    eventually("another node has it", Duration::from_secs(30), async || {
        let next = machines.dev.try_get("nodes/next").await?;
        (next["placement"]["machine_id"] == before["placement"]["machine_id"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_machine_that_can_not_be_used_leaves_a_moving_node_where_it_is() {
    let (one, two) = (Sshd::start().await, Sshd::start().await);
    let other = two.other_key();
    let mut machines = Machines::declared(one, two, &other);
    machines.dev.start().await;
    let before = machines.create().await;
    let agent = agents_on(&machines.one)[0];
    let runs = machines.dev.get("nodes/mover").await["processes"].clone();
    signal(agent, Signal::STOP);
    let operation = machines.moved().await;
    let error = operation["error"].as_str().unwrap();
    assert!(error.contains("host key differs from"), "{error}");
    assert!(!error.contains("not undone"), "{error}");
    let node = machines.dev.get("nodes/mover").await;
    assert_eq!(node["display_state"], "down", "{node:#}");
    assert_eq!(node["placement"], before["placement"]);
    assert_eq!(machines.dev.incidents("migration_failed").await.len(), 1);
    assert!(!machines.two.log().contains("Accepted publickey"));

    signal(agent, Signal::CONT);
    let node = machines.dev.healthy().await;
    assert_eq!(node["placement"], before["placement"]);
    assert_eq!(node["processes"][0]["pid"], runs[0]["pid"], "{node:#}");
    assert_eq!(agents_on(&machines.one), [agent]);
}
