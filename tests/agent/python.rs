//! Python packages, with the real pip from the registry in this machine's configuration.

use std::time::SystemTime;

use proto::v1 as pb;
use proto::v1::command::Action;
use proto::v1::command_result::Outcome;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, run_process, step, wait_for};

/// A package of 25 kB with a program and no dependencies.
const WHEEL: &str = "sha256:274b1e6fc1b966d53976333eb90ac94cb07a450a700b455af9fbdf882244b30a";
const OTHER: &str = "sha256:4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274";

fn pip(integrity: &str) -> pb::Step {
    let package = pb::Package {
        manager: pb::package::Manager::Pip.into(),
        name: "cowsay".to_owned(),
        version: "6.1".to_owned(),
        integrity: integrity.to_owned(),
        binaries: [("cowsay".to_owned(), "bin/cowsay".to_owned())].into(),
    };
    let mut step = step("package", StepAction::Package(package));
    step.timeout_ms = 50_000;
    step
}

#[tokio::test]
async fn a_pip_package_is_installed_and_a_wrong_one_refused() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let result = bed.gateway.run(bed.install(vec![pip(OTHER)])).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:#?}");
    let hex = &WHEEL["sha256:".len()..];
    assert!(
        result.output.contains(hex) || result.error.contains(hex),
        "the digest that came is named: {result:#?}"
    );
    assert!(bed.files().is_empty(), "{:?}", bed.files());

    let mut never = wait_for("never");
    never.timeout_ms = 100;
    let result = bed.gateway.run(bed.install(vec![pip(WHEEL), never])).await;
    assert_eq!(
        (result.outcome(), result.step.as_str()),
        (Outcome::Failed, "never"),
        "{result:#?}"
    );
    assert!(bed.files().is_empty(), "{:?}", bed.files());

    let run = run_process(
        "cow",
        "bin/cowsay -t moo > part && mv part said; exec sleep 1000",
    );
    let recipe = || vec![pip(WHEEL), run.clone(), wait_for("said")];
    bed.gateway.run_well(bed.install(recipe())).await;
    let said = std::fs::read_to_string(bed.root().join("said")).unwrap();
    assert!(said.contains("moo"), "{said}");
    let made = || -> Vec<SystemTime> {
        let packages = std::fs::read_dir(bed.root().join("packages")).unwrap();
        packages
            .map(|one| one.unwrap().metadata().unwrap().modified().unwrap())
            .collect()
    };
    let first = made();
    assert_eq!(first.len(), 1);
    bed.gateway.run_well(bed.install(recipe())).await;
    assert_eq!(made(), first, "it was installed a second time");

    let uninstall = bed.command(Action::Uninstall(pb::Uninstall {}));
    bed.gateway.run_well(uninstall).await;
    assert!(!bed.root().exists() && bed.pids().is_empty());
}
