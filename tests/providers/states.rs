//! States of machines: real Terraform with a real bucket, and a machine that is killed while the engine is at work.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::opentofu::{cloud_with, create, ended, folders, held, machines, output};
use crate::support::dev::{Dev, processes_with};
use crate::support::files::holding;
use crate::support::wait::eventually;
use crate::support::weed::{ACCESS_KEY_ID, Weed};

const BUCKET: &str = "states";
/// Where the states are in it.
const FOLDER: &str = "states/fleet";

/// A product whose states are in a bucket.
fn in_bucket(weed: &Weed) -> Dev {
    let folder = weed.secret_file().parent().unwrap().to_owned();
    let id = folder.join("id");
    std::fs::write(&id, ACCESS_KEY_ID).unwrap();
    let settings = format!(
        "    s3: {{bucket: {BUCKET}, region: us-east-1, prefix: fleet/, endpoint: \"{}\"}}\n    \
         secrets: {{AWS_ACCESS_KEY_ID: {}, AWS_SECRET_ACCESS_KEY: {}}}\n",
        weed.endpoint(),
        id.display(),
        weed.secret_file().display(),
    );
    cloud_with(&settings, "never")
}

/// The state of a node in the bucket.
async fn state(weed: &Weed, node: &str) -> Option<Value> {
    let bytes = weed.read(&format!("{FOLDER}/{node}.tfstate")).await?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// Somebody else's engine, who wants to plan on the same state.
struct Other {
    folder: tempfile::TempDir,
    engine: PathBuf,
    id_file: PathBuf,
    secret_file: PathBuf,
}

impl Other {
    fn beside(dev: &Dev, node: &str, weed: &Weed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = dev.path(&format!(".bellwether/machines/{node}/module"));
        let copied = Command::new("cp")
            .arg("-r")
            .arg(module)
            .arg(folder.path().join("module"))
            .status();
        assert!(copied.unwrap().success());
        Self {
            folder,
            engine: dev.path("terraform"),
            id_file: weed.secret_file().with_file_name("id"),
            secret_file: weed.secret_file(),
        }
    }

    fn plan(&self, lock_timeout: &str) -> Child {
        let mut command = Command::new(&self.engine);
        command.args(["plan", "-input=false", "-no-color"]);
        command.arg(format!("-lock-timeout={lock_timeout}"));
        for name in ["name", "gateway", "ca_pem", "token", "agent", "dir"] {
            command.env(format!("TF_VAR_{name}"), "another");
        }
        let read = |path: &Path| std::fs::read_to_string(path).unwrap();
        command.env("AWS_ACCESS_KEY_ID", read(&self.id_file));
        command.env("AWS_SECRET_ACCESS_KEY", read(&self.secret_file));
        command.current_dir(self.folder.path().join("module"));
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// Whether it ended well, and what it said.
fn outcome(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

/// Waits until the first part of the machine is there; the second one is held.
async fn half_made(dev: &Dev) {
    eventually("the first part", Duration::from_mins(1), async || {
        let token = machines(dev).first()?.join("token");
        token.exists().then_some(())
    })
    .await;
    let held = held(dev).display().to_string();
    eventually(
        "the second part begins",
        Duration::from_secs(30),
        async || {
            let shells = processes_with("while [ -e", "");
            let is_ours = |pid: &u32| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                String::from_utf8_lossy(&environment).contains(&held)
            };
            shells.iter().any(is_ours).then_some(())
        },
    )
    .await;
}

fn nothing_of_it_runs(dev: &Dev) {
    for path in [dev.path("machines"), dev.path("terraform")] {
        let path = path.display().to_string();
        assert_eq!(processes_with(&path, ""), Vec::<u32>::new(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_in_a_bucket_is_locked_while_the_engine_works_and_gone_afterwards() {
    let weed = Weed::start(BUCKET).await;
    let mut dev = in_bucket(&weed);
    std::fs::write(held(&dev), "").unwrap();
    dev.start().await;
    let made = create(&dev, "cloud", "cloudy").await;
    let node = made["node_id"].as_str().unwrap();
    half_made(&dev).await;

    // The lock is an object that is only written where there is none.
    let lock = format!("{node}.tfstate.tflock");
    assert!(weed.names_in(FOLDER).await.contains(&lock));
    let (other, patient) = (
        Other::beside(&dev, node, &weed),
        Other::beside(&dev, node, &weed),
    );
    let waits = patient.plan("60s");
    let (ended_well, said) = outcome(other.plan("0s"));
    assert!(
        !ended_well && said.contains("Error acquiring the state lock"),
        "{said}"
    );
    assert!(said.contains("PreconditionFailed"), "{said}");
    std::fs::remove_file(held(&dev)).unwrap();
    let operation = ended(&dev, &made, Duration::from_secs(90)).await;
    assert_eq!(
        operation["state"],
        "succeeded",
        "{operation:#}\n{}",
        dev.log()
    );
    let (ended_well, said) = outcome(waits);
    assert!(ended_well, "who waits gets it: {said}");
    assert!(
        said.contains("terraform_data.machine"),
        "and finds what was made: {said}"
    );

    assert!(!weed.names_in(FOLDER).await.contains(&lock));
    let kept = state(&weed, node).await.unwrap();
    assert_eq!(kept["resources"].as_array().unwrap().len(), 2, "{kept:#}");
    let local = dev.path(&format!(".bellwether/machines/{node}"));
    assert!(!local.join("terraform.tfstate").exists(), "only there");

    // Who may write to the bucket is told to the engine alone.
    let secret = std::fs::read_to_string(weed.secret_file()).unwrap();
    assert_eq!(
        holding(&dev.path("."), secret.as_bytes()),
        Vec::<PathBuf>::new()
    );
    assert_eq!(processes_with(&secret, ""), Vec::<u32>::new());
    assert!(!operation.to_string().contains(&secret));
    assert!(!kept.to_string().contains(&secret));

    let begun = dev.post("nodes/cloudy/terminate", &json!({})).await;
    let operation = ended(&dev, &begun, Duration::from_mins(1)).await;
    assert_eq!(operation["state"], "succeeded", "{operation:#}");
    let destroyed = output(&operation, "destroy_machine");
    assert!(destroyed.contains("2 destroyed."), "{destroyed}");
    nothing_is_left(&dev, &weed).await;
}

async fn nothing_is_left(dev: &Dev, weed: &Weed) {
    assert_eq!(machines(dev), [] as [PathBuf; 0], "the machine is gone");
    assert_eq!(folders(dev), 0);
    nothing_of_it_runs(dev);
    assert_eq!(weed.names_in(FOLDER).await, Vec::<String>::new());
}

/// Kills the host when a part of the machine is made, and starts it again: what the operation says at its end.
async fn killed_while_it_applies(dev: &mut Dev) -> Value {
    std::fs::write(held(dev), "").unwrap();
    dev.start().await;
    let made = create(dev, "cloud", "half").await;
    half_made(dev).await;
    dev.kill_host();
    let engine = dev.path("terraform").display().to_string();
    assert_eq!(processes_with(&engine, "apply").len(), 1, "it goes on");
    dev.start().await;
    ended(dev, &made, Duration::from_mins(2)).await
}

fn failed_and_undone(operation: &Value) {
    assert_eq!(operation["state"], "failed", "{operation:#}");
    let error = operation["error"].as_str().unwrap();
    assert!(
        error.contains("an earlier attempt created part of the machine"),
        "{error}"
    );
    assert!(!error.contains("not undone"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_while_the_engine_applies_leaves_nothing_of_the_machine() {
    let mut dev = cloud_with("", "never");
    let operation = killed_while_it_applies(&mut dev).await;
    failed_and_undone(&operation);
    assert_eq!(
        machines(&dev),
        [] as [PathBuf; 0],
        "the part that was made is gone"
    );
    assert_eq!(folders(&dev), 0);
    nothing_of_it_runs(&dev);
    let node = dev.get("nodes/half").await;
    assert_eq!(node["state"], "failed", "{node:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_killed_while_the_engine_applies_leaves_no_lock_in_the_bucket() {
    let weed = Weed::start(BUCKET).await;
    let mut dev = in_bucket(&weed);
    let operation = killed_while_it_applies(&mut dev).await;
    failed_and_undone(&operation);
    nothing_is_left(&dev, &weed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_ends_while_the_engine_applies_leaves_nothing_either() {
    let mut dev = cloud_with("", "never");
    std::fs::write(held(&dev), "").unwrap();
    dev.start().await;
    let made = create(&dev, "cloud", "half").await;
    half_made(&dev).await;
    assert!(dev.interrupt_host().await, "{}", dev.log());
    dev.start().await;
    let operation = ended(&dev, &made, Duration::from_mins(2)).await;
    failed_and_undone(&operation);
    assert_eq!(
        machines(&dev),
        [] as [PathBuf; 0],
        "the part that was made is gone"
    );
    assert_eq!(folders(&dev), 0);
    nothing_of_it_runs(&dev);
}
