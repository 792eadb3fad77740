//! Machines by SSH, on a real server: an agent is put on one and taken off, and whatever goes wrong leaves nothing there.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::user;
use crate::support::dev::{Dev, processes_in, processes_with, signal};
use crate::support::files::holding;
use crate::support::sshd::Sshd;
use crate::support::wait::eventually;

/// A product whose chain may run on one machine of provider `racks`.
struct Racks {
    dev: Dev,
    sshd: Sshd,
}

impl Racks {
    async fn new() -> Self {
        let sshd = Sshd::start().await;
        let known = sshd.known_host();
        Self::on(sshd, &known, "")
    }

    fn on(sshd: Sshd, known_host: &str, more: &str) -> Self {
        let mut dev = Dev::new(&["--no-agent", "--no-node"]);
        let gateway = dev.fix_gateway();
        dev.edit(
            "chains/anvil-devnet/profile.yaml",
            "    providers:\n",
            "    providers:\n      racks:\n        instance_type: any\n        default_region: default\n        regions: [default]\n",
        );
        dev.configure(&format!(
            "machine_providers:\n  racks:\n    kind: ssh\n    gateway: https://127.0.0.1:{gateway}\n{more}    machines:\n      - name: one\n        address: 127.0.0.1\n        \
             port: {}\n        user: {}\n        key_file: {}\n        known_host: {known_host}\n        dir: {}\n",
            sshd.port,
            user(),
            sshd.path("user").display(),
            sshd.path("machine/agent").display(),
        ));
        Self { dev, sshd }
    }

    /// The agent's folder on the machine.
    fn folder(&self) -> PathBuf {
        self.sshd.path("machine/agent")
    }

    async fn create(&self, name: &str) -> Value {
        let wanted = json!({"chain": "anvil-devnet", "provider": "racks", "name": name});
        self.dev.post("nodes", &wanted).await
    }

    async fn operation(&self, id: &Value) -> Value {
        self.dev
            .get(&format!("operations/{}", id.as_str().unwrap()))
            .await
    }

    /// Waits for the end of an operation.
    async fn ended(&self, id: &Value, limit: Duration) -> Value {
        eventually("the operation's end", limit, async || {
            let operation = self.operation(id).await;
            let is_over =
                ["succeeded", "failed", "cancelled"].contains(&operation["state"].as_str()?);
            is_over.then_some(operation)
        })
        .await
    }

    async fn healthy(&self, name: &str) {
        eventually("the node is healthy", Duration::from_secs(90), async || {
            let node = self.dev.try_get(&format!("nodes/{name}")).await?;
            (node["display_state"] == "healthy").then_some(())
        })
        .await;
    }

    /// What runs on the machine, as far as it is ours.
    fn processes(&self) -> Vec<u32> {
        processes_in(&self.folder())
    }

    /// It bought one certificate; nobody but the agent's user could read it, and nothing tells it.
    fn token_is_with_its_agent_only(&self) {
        let token_file = self.folder().join("token");
        assert_eq!(
            token_file.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let token = std::fs::read_to_string(&token_file).unwrap();
        assert!(token.starts_with("bw_join_"), "{token}");
        assert_eq!(
            holding(&self.dev.path("."), token.trim().as_bytes()),
            Vec::<PathBuf>::new()
        );
        assert_eq!(processes_with(token.trim(), ""), Vec::<u32>::new());
        assert!(!self.sshd.log().contains(token.trim()));
    }

    /// Nothing is on the machine, and no node holds it.
    async fn is_clean(&self) {
        assert_eq!(self.processes(), Vec::<u32>::new(), "nothing runs");
        assert!(!self.folder().exists(), "nothing is left on disk");
        let nodes = self.dev.get("nodes").await;
        for node in nodes["items"].as_array().unwrap() {
            assert_eq!(node["placement"]["machine_id"], Value::Null, "{node:#}");
        }
    }
}

fn step<'a>(operation: &'a Value, name: &str) -> &'a Value {
    let steps = operation["steps"].as_array().unwrap();
    let found = steps.iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {operation:#}"))
}

#[tokio::test]
async fn an_agent_is_put_on_a_machine_keeps_running_and_is_gone_with_its_node() {
    let mut racks = Racks::new().await;
    racks.dev.start().await;
    let made = racks.create("far").await;
    racks.healthy("far").await;
    let node = racks.dev.get("nodes/far").await;
    assert_eq!(node["placement"]["provider"], "racks");
    let operation = racks
        .ended(&made["operation"]["id"], Duration::from_secs(30))
        .await;
    let plan = step(&operation, "plan_machine")["output"].as_str().unwrap();
    assert!(
        plan.contains("machine one") && plan.contains("adds no cost"),
        "{plan}"
    );
    let seen = step(&operation, "create_machine")["output"]
        .as_str()
        .unwrap();
    assert!(
        seen.contains("Linux") && seen.contains("KiB free"),
        "{seen}"
    );

    racks.token_is_with_its_agent_only();

    // The only machine is taken.
    let second = racks.create("second").await;
    let failed = racks
        .ended(&second["operation"]["id"], Duration::from_secs(30))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("no free machine in region `default`"),
        "{error}"
    );

    // The agent outlives its session, and what keeps it running outlives the agent.
    let binary = racks
        .folder()
        .join("bin/bellwether-agent")
        .display()
        .to_string();
    let agents = || processes_with(&binary, "--state-dir");
    let before = agents();
    assert_eq!(before.len(), 1);
    signal(before[0], Signal::KILL);
    eventually("another agent", Duration::from_secs(30), async || {
        let now = agents();
        (now.len() == 1 && now != before).then_some(())
    })
    .await;

    let ended = racks.dev.post("nodes/far/terminate", &json!({})).await;
    let ended = racks
        .ended(&ended["operation"]["id"], Duration::from_mins(1))
        .await;
    assert_eq!(ended["state"], "succeeded", "{ended:#}");
    let said = step(&ended, "destroy_machine")["output"].as_str().unwrap();
    assert!(said.contains("nothing is left"), "{said}");
    racks.is_clean().await;
    let agents = racks.dev.get("agents").await;
    assert!(agents["items"][0]["revoked_at"].is_string(), "{agents:#}");

    // The machine is free again.
    racks.create("third").await;
    racks.healthy("third").await;
}

#[tokio::test]
async fn a_machine_with_another_host_key_is_refused_and_nothing_is_done_to_it() {
    let sshd = Sshd::start().await;
    let other = sshd.other_key();
    let mut racks = Racks::on(sshd, &other, "");
    racks.dev.start().await;
    let made = racks.create("refused").await;
    let failed = racks
        .ended(&made["operation"]["id"], Duration::from_mins(1))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.starts_with("step `create_machine`: the machine `one` is not usable"),
        "{error}"
    );
    assert!(error.contains("host key differs from"), "{error}");
    assert!(
        error.contains("Host key verification failed"),
        "its own words: {error}"
    );
    assert!(!error.contains("not undone"), "{error}");
    racks.is_clean().await;
    assert!(
        !racks.sshd.log().contains("Accepted publickey"),
        "{}",
        racks.sshd.log()
    );
}

#[tokio::test]
async fn a_machine_that_is_away_is_tried_again_and_then_given_up() {
    let mut racks = Racks::new().await;
    racks.sshd.stop();
    racks.dev.start().await;
    let made = racks.create("away").await;
    let failed = racks
        .ended(&made["operation"]["id"], Duration::from_secs(90))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.contains("could not reach the machine `one`"),
        "{error}"
    );
    assert!(
        error.contains("Connection refused"),
        "its own words: {error}"
    );
    assert!(!error.contains("not undone"), "{error}");
    racks.is_clean().await;

    racks.create("back").await;
    eventually(
        "the first try is over",
        Duration::from_secs(30),
        async || {
            let log = racks.dev.log();
            let node = racks.dev.try_get("nodes/back").await?;
            (!log.is_empty() && node["placement"]["machine_id"].is_string()).then_some(())
        },
    )
    .await;
    racks.sshd.run().await;
    racks.healthy("back").await;
}

#[tokio::test]
async fn a_machine_whose_disk_is_full_fails_with_its_own_words_and_keeps_nothing() {
    // A megabyte: less than the agent's program.
    let sshd = Sshd::start_with(Some(2_000)).await;
    let known = sshd.known_host();
    let mut racks = Racks::on(sshd, &known, "");
    racks.dev.start().await;
    let made = racks.create("full").await;
    let failed = racks
        .ended(&made["operation"]["id"], Duration::from_mins(1))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.starts_with("step `bootstrap_agent`: `ssh one (upload)`"),
        "{error}"
    );
    assert!(!error.contains("not undone"), "{error}");
    racks.is_clean().await;
}

#[tokio::test]
async fn an_agent_that_does_not_stay_up_is_taken_off_again() {
    let sshd = Sshd::start().await;
    let known = sshd.known_host();
    // A program that ends at once.
    let mut racks = Racks::on(sshd, &known, "    agent_binary: /bin/false\n");
    racks.dev.start().await;
    let made = racks.create("short").await;
    let failed = racks
        .ended(&made["operation"]["id"], Duration::from_mins(1))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(
        error.starts_with("step `bootstrap_agent`: `ssh one (start)`"),
        "{error}"
    );
    assert!(error.contains("the agent does not stay up"), "{error}");
    assert!(!error.contains("not undone"), "{error}");
    racks.is_clean().await;
}

#[tokio::test]
async fn a_folder_that_is_not_ours_is_left_alone() {
    let mut racks = Racks::new().await;
    std::fs::create_dir_all(racks.folder()).unwrap();
    let theirs = racks.folder().join("theirs");
    std::fs::write(&theirs, "precious").unwrap();
    racks.dev.start().await;
    let made = racks.create("guest").await;
    let failed = racks
        .ended(&made["operation"]["id"], Duration::from_mins(1))
        .await;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("is there already and not ours"), "{error}");
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "precious");
}

#[tokio::test]
async fn a_host_killed_while_it_puts_an_agent_on_a_machine_ends_with_one() {
    let mut racks = Racks::new().await;
    racks.dev.start().await;
    racks.create("stubborn").await;
    for pause in [300, 700, 1_500, 2_500] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        racks.dev.restart_host().await;
    }
    racks.healthy("stubborn").await;
    let binary = racks
        .folder()
        .join("bin/bellwether-agent")
        .display()
        .to_string();
    assert_eq!(processes_with(&binary, "--state-dir").len(), 1, "one agent");
    assert_eq!(
        processes_with(&racks.folder().display().to_string(), "anvil").len(),
        1,
        "one node"
    );
}
