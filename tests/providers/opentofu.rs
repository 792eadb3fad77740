//! Machines that an engine makes: Terraform itself with a module that needs no download, and an engine with faults.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::dev::{Dev, processes_with, programs, signal};
use crate::support::files::holding;
use crate::support::terraform::{program, terraform};
use crate::support::wait::eventually;

/// A product whose chain may run by each of these providers.
fn dev_with(providers: &[&str]) -> (Dev, u16) {
    let mut dev = Dev::new(&["--no-agent", "--no-node"]);
    let gateway = dev.fix_gateway();
    let mut declared = "    providers:\n".to_owned();
    for name in providers {
        let machine = "{instance_type: small, default_region: here, regions: [here]}";
        writeln!(declared, "      {name}: {machine}").unwrap();
    }
    dev.edit(
        "chains/anvil-devnet/profile.yaml",
        "    providers:\n",
        &declared,
    );
    (dev, gateway)
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("providers")
}

/// Real Terraform; `breaks` says when the second part of a machine fails.
fn cloud(breaks: &str) -> Dev {
    cloud_with("", breaks)
}

/// The same with further settings of the provider. The second part takes as long as the file [`held`] is there.
pub(super) fn cloud_with(settings: &str, breaks: &str) -> Dev {
    let (dev, gateway) = dev_with(&["cloud"]);
    let engine = terraform(&dev.path(""));
    dev.configure(&format!(
        "machine_providers:\n  cloud:\n    kind: opentofu\n    binary: {}\n    module: {}\n    gateway: https://127.0.0.1:{gateway}\n    \
         variables: {{agent: {}, dir: {}, hold: {}, breaks: \"{breaks}\"}}\n{settings}\
         migration: {{grace: 4s, settle: 2s, lease: 4s, lease_margin: 1s}}\n",
        engine.display(),
        sources().join("machine").display(),
        programs().join("bellwether-agent").display(),
        dev.path("machines").display(),
        held(&dev).display(),
    ));
    dev
}

/// Holds the engine while it is there.
pub(super) fn held(dev: &Dev) -> PathBuf {
    dev.path("hold")
}

/// The folders of the "machines".
pub(super) fn machines(dev: &Dev) -> Vec<PathBuf> {
    let found = std::fs::read_dir(dev.path("machines"))
        .into_iter()
        .flatten();
    found.map(|entry| entry.unwrap().path()).collect()
}

pub(super) async fn create(dev: &Dev, provider: &str, name: &str) -> Value {
    let wanted = json!({"chain": "anvil-devnet", "provider": provider, "name": name});
    dev.post("nodes", &wanted).await
}

/// Waits for the end of what a request began.
pub(super) async fn ended(dev: &Dev, begun: &Value, limit: Duration) -> Value {
    let id = begun["operation"]["id"].as_str().unwrap();
    eventually("the operation's end", limit, async || {
        let operation = dev.get(&format!("operations/{id}")).await;
        let is_over = ["succeeded", "failed", "cancelled"].contains(&operation["state"].as_str()?);
        is_over.then_some(operation)
    })
    .await
}

pub(super) fn output<'a>(operation: &'a Value, name: &str) -> &'a str {
    let steps = operation["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["name"] == name).unwrap();
    step["output"].as_str().unwrap()
}

/// Working folders of nodes.
pub(super) fn folders(dev: &Dev) -> usize {
    std::fs::read_dir(dev.path(".bellwether/machines")).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_machine_is_planned_made_as_planned_and_destroyed_with_its_node() {
    let mut dev = cloud("never");
    dev.start().await;
    let made = create(&dev, "cloud", "cloudy").await;
    let operation = ended(&dev, &made, Duration::from_secs(90)).await;
    assert_eq!(
        operation["state"],
        "succeeded",
        "{operation:#}\n{}",
        dev.log()
    );
    let plan = output(&operation, "plan_machine");
    assert!(
        plan.contains("Plan: 2 to add, 0 to change, 0 to destroy."),
        "{plan}"
    );
    assert!(plan.contains("The plan is sha256:"), "{plan}");
    let applied = output(&operation, "create_machine");
    assert!(applied.contains("Apply complete!"), "{applied}");
    let node = dev.get("nodes/cloudy").await;
    assert_eq!(node["placement"]["machine_ip"], "127.0.0.1");

    // The token went to the machine and nowhere else that is kept in the clear.
    let token_file = machines(&dev)[0].join("token");
    let token = std::fs::read_to_string(&token_file).unwrap();
    assert_eq!(
        holding(&dev.path("."), token.trim().as_bytes()),
        [token_file]
    );
    assert_eq!(processes_with(token.trim(), ""), Vec::<u32>::new());

    let begun = dev.post("nodes/cloudy/terminate", &json!({})).await;
    let operation = ended(&dev, &begun, Duration::from_mins(1)).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    let destroyed = output(&operation, "destroy_machine");
    assert!(
        destroyed.contains("Destroy complete! Resources: 2 destroyed."),
        "{destroyed}"
    );
    assert_eq!(machines(&dev), [] as [PathBuf; 0], "the machine is gone");
    assert_eq!(folders(&dev), 0, "and so is what was kept of it");
    let path = dev.path("machines").display().to_string();
    assert_eq!(processes_with(&path, ""), Vec::<u32>::new());
}

#[tokio::test]
async fn a_machine_that_is_made_in_part_is_destroyed_and_the_engine_quoted() {
    let mut dev = cloud("always");
    dev.start().await;
    let made = create(&dev, "cloud", "half").await;
    let operation = ended(&dev, &made, Duration::from_mins(1)).await;
    let error = operation["error"].as_str().unwrap();
    assert!(
        error.starts_with("step `create_machine`: `terraform apply`"),
        "{error}"
    );
    assert!(
        error.contains("after it created part of the machine"),
        "{error}"
    );
    assert!(error.contains("the quota is used up"), "{error}");
    assert!(!error.contains("not undone"), "{error}");
    assert_eq!(
        machines(&dev),
        [] as [PathBuf; 0],
        "the part that was made is gone"
    );
    assert_eq!(folders(&dev), 0);
    let path = dev.path("machines").display().to_string();
    assert_eq!(processes_with(&path, ""), Vec::<u32>::new());
}

/// A node on its machine, whose agent then hangs, and the operation that moves it.
async fn moving(dev: &Dev) -> (Value, u32, Value) {
    let made = create(dev, "cloud", "mover").await;
    ended(dev, &made, Duration::from_secs(90)).await;
    let node = dev.healthy().await;
    let agents = processes_with(&machines(dev)[0].display().to_string(), "--state-dir");
    assert_eq!(agents.len(), 1);
    signal(agents[0], Signal::STOP);
    let moving = eventually("the node is moved", Duration::from_mins(1), async || {
        let operations = dev.get("operations").await;
        let items = operations["items"].as_array().unwrap().iter();
        let mut moves = items.filter(|operation| operation["kind"] == "migrate_node");
        moves.next().cloned()
    });
    let begun = json!({"operation": moving.await});
    (
        node,
        agents[0],
        ended(dev, &begun, Duration::from_mins(3)).await,
    )
}

#[tokio::test]
async fn a_node_that_moves_has_two_machines_and_in_the_end_the_new_one() {
    let mut dev = cloud("never");
    dev.start().await;
    let (before, old_agent, operation) = moving(&dev).await;
    assert_eq!(
        operation["state"],
        "succeeded",
        "{operation:#}\n{}",
        dev.log()
    );
    let plan = output(&operation, "plan_machine");
    assert!(
        plan.contains("Plan: 2 to add, 0 to change, 0 to destroy."),
        "{plan}"
    );
    assert!(output(&operation, "create_machine").contains("Apply complete!"));
    let node = dev.get("nodes/mover").await;
    assert_ne!(
        node["placement"]["machine_id"],
        before["placement"]["machine_id"]
    );
    assert_eq!(node["placement"]["machine_ip"], "127.0.0.1");
    assert_eq!(node["display_state"], "healthy", "{node:#}");

    // The old one is destroyed, with the agent that hangs, and nothing else is.
    let limit = Duration::from_mins(1);
    eventually("one machine is left", limit, async || {
        (folders(&dev) == 1 && machines(&dev).len() == 1).then_some(())
    })
    .await;
    let left = machines(&dev).remove(0);
    let id = node["id"].as_str().unwrap();
    let old = format!("bellwether-{id}");
    assert!(
        left.display().to_string().contains(&format!("{old}-")),
        "{left:?}"
    );
    let path = left.display().to_string();
    let agents = processes_with(&path, "--state-dir");
    assert!(agents.len() == 1 && agents[0] != old_agent, "{agents:?}");
    assert_eq!(dev.incidents("machine_left_behind").await, [] as [Value; 0]);

    let begun = dev.post("nodes/mover/terminate", &json!({})).await;
    let operation = ended(&dev, &begun, Duration::from_mins(1)).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    assert_eq!((machines(&dev).len(), folders(&dev)), (0, 0));
}

#[tokio::test]
async fn a_machine_that_can_not_be_made_for_a_moving_node_leaves_it_where_it_is() {
    let mut dev = cloud("beside");
    dev.start().await;
    let (before, agent, operation) = moving(&dev).await;
    assert_eq!(operation["state"], "failed", "{operation:#}");
    let error = operation["error"].as_str().unwrap();
    assert!(
        error.starts_with("step `create_machine`: `terraform apply`"),
        "{error}"
    );
    assert!(error.contains("the quota is used up"), "{error}");
    assert!(!error.contains("not undone"), "{error}");
    let node = dev.get("nodes/mover").await;
    assert_eq!(node["display_state"], "down", "{node:#}");
    assert_eq!(node["placement"], before["placement"]);
    assert_eq!(dev.incidents("migration_failed").await.len(), 1);
    assert_eq!(
        (machines(&dev).len(), folders(&dev)),
        (1, 1),
        "only the old one"
    );

    // Nothing was done to it: its agent goes on, and so does what it runs.
    let path = machines(&dev)[0].display().to_string();
    assert_eq!(processes_with(&path, "--state-dir"), [agent]);
    signal(agent, Signal::CONT);
    let node = dev.healthy().await;
    assert_eq!(node["placement"], before["placement"]);
}

const FAULTS: &[&str] = &[
    "hangs",
    "lies",
    "half-creates",
    "refuses",
    "babbles",
    "swaps",
    "clings",
];

/// A product with a provider for each fault of the stand-in.
fn faulty() -> (Dev, PathBuf) {
    let (dev, gateway) = dev_with(FAULTS);
    let script = std::fs::read_to_string(sources().join("stand-in.sh")).unwrap();
    let engine = program(&dev.path("."), "tofu", &script);
    std::fs::create_dir(dev.path("module")).unwrap();
    std::fs::write(dev.path("module/main.tf"), "").unwrap();
    std::fs::write(dev.path("secret"), "very-secret\n").unwrap();
    let mut providers = "machine_providers:\n".to_owned();
    for fault in FAULTS {
        let settings = json!({
            "kind": "opentofu",
            "binary": engine,
            "module": dev.path("module"),
            "gateway": format!("https://127.0.0.1:{gateway}"),
            "apply_limit": "2s",
            "variables": {"fault": fault, "log": dev.path("calls")},
            "secrets": {"SECRET": dev.path("secret")},
        });
        writeln!(providers, "  {fault}: {settings}").unwrap();
    }
    dev.configure(&providers);
    (dev, engine)
}

/// Where each fault ends a node, and words of its error.
const ENDS: &[(&str, &str, &str)] = &[
    ("hangs", "create_machine", "can't be applied twice"),
    ("lies", "create_machine", "without an output `address`"),
    (
        "half-creates",
        "create_machine",
        "out of quota, said (secret)",
    ),
    ("refuses", "plan_machine", "Error: no such server type"),
    ("babbles", "create_machine", "the output is not JSON"),
    (
        "swaps",
        "create_machine",
        "differs from the one that the operation shows",
    ),
    (
        "clings",
        "create_machine",
        "not undone: `destroy_machine`: `destroy_machine` failed: `tofu destroy`",
    ),
];

#[tokio::test]
async fn an_engine_that_hangs_lies_half_creates_or_babbles_leaves_nothing_that_is_not_named() {
    let (mut dev, engine) = faulty();
    dev.start().await;
    let mut begun = Vec::new();
    for (fault, step, words) in ENDS {
        begun.push((fault, step, words, create(&dev, fault, fault).await));
    }
    for (fault, step, words, made) in begun {
        let operation = ended(&dev, &made, Duration::from_mins(2)).await;
        assert_eq!(operation["state"], "failed", "{fault}: {operation:#}");
        let error = operation["error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("step `{step}`")) && error.contains(words),
            "{fault}: {error}"
        );
        assert_eq!(error.contains("not undone"), *fault == "clings", "{error}");
        let told = operation.to_string();
        assert!(!told.contains("very-secret") && !told.contains("bw_join_"));
    }
    let state = dev.path(".bellwether");
    assert_eq!(holding(&state, b"very-secret"), Vec::<PathBuf>::new());
    // What may have been made is destroyed, and nothing else is.
    let calls = std::fs::read_to_string(dev.path("calls")).unwrap();
    for (fault, n_applied, n_destroyed) in [
        ("hangs", 1, 1),
        ("lies", 1, 0),
        ("half-creates", 1, 1),
        ("refuses", 0, 0),
        ("babbles", 0, 0),
        ("swaps", 0, 0),
    ] {
        let line = |command: &str| format!("{fault} {command}");
        let count = |command| calls.lines().filter(|one| *one == line(command)).count();
        let counts = (count("apply"), count("destroy"));
        assert_eq!(counts, (n_applied, n_destroyed), "{fault}: {calls}");
    }
    assert_eq!(folders(&dev), 1, "only what could not be destroyed is kept");
    let path = engine.display().to_string();
    assert_eq!(processes_with(&path, ""), Vec::<u32>::new(), "nothing runs");
}

#[test]
fn the_modules_are_formatted_and_the_tests_own_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let engine = terraform(folder.path());
    let run = |dir: &Path, args: &[&str]| {
        let output = Command::new(&engine)
            .args(args)
            .current_dir(dir)
            .output()
            .unwrap();
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{args:?}: {said}");
    };
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // It also refuses what does not parse. `validate` of these wants their providers, which come from elsewhere.
    run(
        project,
        &["fmt", "-check", "-diff", "-recursive", "deploy/tofu"],
    );
    run(
        project,
        &["fmt", "-check", "-diff", "tests/providers/machine"],
    );
    let own = folder.path().join("machine");
    std::fs::create_dir(&own).unwrap();
    std::fs::copy(sources().join("machine/main.tf"), own.join("main.tf")).unwrap();
    run(&own, &["init", "-input=false"]);
    run(&own, &["validate"]);
    // Both start the agent in the same way.
    let template = |module: &str| {
        std::fs::read(
            project
                .join("deploy/tofu")
                .join(module)
                .join("cloud-init.yaml.tftpl"),
        )
        .unwrap()
    };
    assert_eq!(template("hetzner"), template("ovh"));
}
