//! A host that is started with a wrong configuration folder goes on with the last one that worked.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::bed::{Bed, toy_chain};
use crate::plugins::support::component;
use crate::support::wait::eventually;

/// The toy chain with a collector that is a real component.
fn measured_toy(chains: &Path) {
    toy_chain(chains);
    let bytes = component("host");
    let digest = hex::encode(Sha256::digest(&bytes));
    fs::create_dir_all(chains.join("components")).unwrap();
    fs::write(chains.join("components/host.wasm"), bytes).unwrap();
    let profile = chains.join("chains/toy/profile.yaml");
    let text = fs::read_to_string(&profile).unwrap();
    let plugin = format!(
        "plugins:\n  host: {{component: components/host.wasm, digest: \"sha256:{digest}\"}}\n"
    );
    fs::write(profile, text + &plugin).unwrap();
    let observation =
        "schema_version: \"1.0\"\ncollectors:\n  - {name: host, plugin: host, every: 5s}\n";
    fs::write(chains.join("chains/toy/observation.yaml"), observation).unwrap();
}

/// The reason of the incident about the folder, while it is open.
async fn rejection(bed: &Bed) -> Option<String> {
    let open = bed.get("/api/v1/incidents?state=open").await;
    let found = open["items"].as_array().unwrap().iter();
    let mut found = found.filter(|one| one["category"] == "config_rejected");
    let first = found.next()?;
    assert!(found.next().is_none(), "one incident: {open}");
    Some(first["reasons"].to_string())
}

async fn chains(bed: &Bed) -> String {
    bed.get("/api/v1/chains").await.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_starts_with_the_last_good_configuration_and_takes_the_mended_one_over() {
    let dir = tempfile::tempdir().unwrap();
    measured_toy(&dir.path().join("chain-configs"));
    let bed = Bed::start_in(dir).await.unwrap();
    assert_eq!(rejection(&bed).await, None);
    let dir = bed.stop().await;
    let folder = dir.path().join("chain-configs");

    // Wrong in two ways at once: a mistake in the YAML, and a component that is gone.
    let runtime = folder.join("chains/toy/runtime.yaml");
    let right = fs::read_to_string(&runtime).unwrap();
    fs::write(&runtime, format!("{right}surprise: 1\n")).unwrap();
    fs::remove_dir_all(folder.join("components")).unwrap();
    let bed = Bed::start_in(dir).await.unwrap();
    let report = rejection(&bed).await.expect("the folder is wrong");
    for part in [
        "chains/toy/runtime.yaml",
        "surprise",
        "components/host.wasm",
    ] {
        assert!(report.contains(part), "{report}");
    }
    assert!(chains(&bed).await.contains("Toy"));
    let plugins = bed.get("/api/v1/plugins").await.to_string();
    assert!(
        plugins.contains("active") && !plugins.contains("broken"),
        "{plugins}"
    );

    // Mended, with something new: taken over without a restart.
    measured_toy(&folder);
    fs::write(&runtime, right).unwrap();
    let profile = folder.join("chains/toy/profile.yaml");
    let text = fs::read_to_string(&profile).unwrap();
    fs::write(
        profile,
        text.replace("display_name: Toy", "display_name: Mended"),
    )
    .unwrap();
    eventually("the mended folder", Duration::from_secs(30), async || {
        let is_taken = chains(&bed).await.contains("Mended") && rejection(&bed).await.is_none();
        is_taken.then_some(())
    })
    .await;

    // Its version is the last good one now; the folder may even be away.
    let dir = bed.stop().await;
    fs::rename(&folder, dir.path().join("moved")).unwrap();
    let bed = Bed::start_in(dir).await.unwrap();
    assert!(chains(&bed).await.contains("Mended") && rejection(&bed).await.is_some());
    fs::rename(bed.dir.path().join("moved"), &folder).unwrap();
    eventually(
        "the folder that is back",
        Duration::from_secs(30),
        async || rejection(&bed).await.is_none().then_some(()),
    )
    .await;
    bed.stop().await;
}

#[tokio::test]
async fn a_host_that_never_had_a_right_configuration_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("chain-configs");
    toy_chain(&folder);
    fs::write(folder.join("chains/toy/runtime.yaml"), "surprise: 1\n").unwrap();
    let Err(error) = Bed::start_in(dir).await else {
        panic!("it started");
    };
    let text = format!("{error:#}");
    assert!(
        text.contains("chains/toy/runtime.yaml") && text.contains("surprise"),
        "{text}"
    );
}
