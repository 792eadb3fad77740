//! Recipes: steps run in order, are undone in reverse order, are retried, and wait.

use proto::v1 as pb;
use proto::v1::command_result::Outcome;
use proto::v1::step::Action as StepAction;

use super::bed::{Bed, directory, file, run_process, step, wait_for};
use crate::support::gateway::TestGateway;

async fn fails(gateway: &TestGateway, command: pb::Command) -> pb::CommandResult {
    let result = gateway.run(command).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:#?}");
    result
}

#[tokio::test]
async fn steps_are_done_in_order() {
    let bed = Bed::new().await;
    let port = bed.prepare().await.ports["rpc"];
    let serve = format!("exec python3 -m http.server --bind 127.0.0.1 {port} --directory data");
    let binary = pb::Binary {
        name: "tool".to_owned(),
        source: "versions/1/tool".to_owned(),
        version: "1".to_owned(),
    };
    let http = pb::WaitFor {
        target: Some(pb::wait_for::Target::Http(format!(
            "http://127.0.0.1:{port}/index.html"
        ))),
        interval_ms: 50,
    };
    let tcp = pb::WaitFor {
        target: Some(pb::wait_for::Target::Tcp(format!("127.0.0.1:{port}"))),
        interval_ms: 50,
    };
    let result = bed.gateway.run_well(bed.install(vec![
        directory("data/deep"),
        file("data/index.html", "hello"),
        file(
            "versions/1/tool",
            "#!/bin/sh\necho tool 1 > data/deep/said\n",
        ),
        step("tool", StepAction::Binary(binary)),
        run_process("serve", &serve),
        step("tcp", StepAction::WaitFor(tcp)),
        step("http", StepAction::WaitFor(http)),
        run_process("tool-once", "bin/tool; exec sleep 1000"),
        wait_for("data/deep/said"),
    ]));
    assert_eq!(result.await.error, "");
    assert_eq!(bed.files(), ["bin", "data", "versions"]);
    assert_eq!(
        std::fs::read_to_string(bed.root().join("data/deep/said")).unwrap(),
        "tool 1\n"
    );
}

#[tokio::test]
async fn a_failed_recipe_leaves_nothing() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let mut never = wait_for("never");
    never.timeout_ms = 200;
    let recipe = vec![
        directory("data/deep"),
        file("data/deep/file", "x"),
        run_process("p", "echo more > data/more; exec sleep 1000"),
        never,
    ];
    let result = fails(&bed.gateway, bed.install(recipe)).await;
    assert_eq!(result.step, "never");
    assert!(result.error.contains("0.2 s"), "{result:?}");
    assert!(
        result.output.contains("`never` does not exist"),
        "{result:?}"
    );
    assert!(bed.pids().is_empty());
    assert!(bed.files().is_empty(), "{:?}", bed.files());
    let run: Vec<_> = std::fs::read_dir(bed.root().join("run"))
        .unwrap()
        .flatten()
        .collect();
    assert!(
        run.iter()
            .all(|entry| !entry.file_name().to_string_lossy().starts_with('p')),
        "{run:?}"
    );
}

#[tokio::test]
async fn what_a_failed_recipe_replaced_is_put_back() {
    let bed = Bed::new().await;
    bed.prepare().await;
    bed.gateway
        .run_well(bed.install(vec![
            file("config", "old"),
            file("v1", "#!/bin/sh\n"),
            binary("v1"),
            run_process("p", "echo old > said; exec sleep 1000"),
            wait_for("said"),
        ]))
        .await;
    std::fs::remove_file(bed.root().join("said")).unwrap();
    let mut never = wait_for("never");
    never.timeout_ms = 100;
    let upgrade = vec![
        file("config", "new"),
        file("v2", "#!/bin/sh\n"),
        binary("v2"),
        run_process("p", "exec sleep 2000"),
        never,
    ];
    fails(&bed.gateway, bed.install(upgrade)).await;
    assert_eq!(
        std::fs::read_to_string(bed.root().join("config")).unwrap(),
        "old"
    );
    assert_eq!(
        std::fs::read_link(bed.root().join("bin/tool"))
            .unwrap()
            .to_str(),
        Some("../v1")
    );
    bed.gateway
        .run_well(bed.install(vec![wait_for("said")]))
        .await;
    assert_eq!(bed.files(), ["bin", "config", "said", "v1"]);
}

#[tokio::test]
async fn what_can_not_be_undone_is_told_and_left_for_a_person() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    let old = bed.install(vec![file("config", "old")]);
    bed.gateway.run_well(old).await;
    let mut never = wait_for("never");
    never.timeout_ms = 2_000;
    let command = bed.install(vec![file("config", "new"), directory("data"), never]);
    let config = bed.root().join("config");
    let (result, ()) = tokio::join!(bed.gateway.run(command.clone()), async {
        let waits = |message: &proto::v1::agent_message::Message| match message {
            proto::v1::agent_message::Message::Progress(p) if p.step == "never" => Some(()),
            _ => None,
        };
        bed.gateway.wait("the last step", waits).await;
        // Another program creates a folder where the agent must restore the old file.
        std::fs::remove_file(&config).unwrap();
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("theirs"), "").unwrap();
    });
    assert_eq!(result.outcome(), Outcome::Stuck, "{result:#?}");
    assert_eq!(result.step, "never", "the step that failed first");
    for part in [
        "did not end within 2 s",
        "`config` can't be undone",
        "inspect the node's folder",
    ] {
        assert!(result.error.contains(part), "{result:#?}");
    }
    assert_eq!(bed.files(), ["config"], "the later steps are undone");
    assert!(config.join("theirs").exists());

    bed.gateway.forget();
    bed.restart_agent();
    let again = bed.gateway.run(command).await;
    assert_eq!(again.outcome(), Outcome::Stuck, "{again:#?}");
    assert!(
        config.join("theirs").exists(),
        "the agent does not retry the undoing"
    );
}

#[tokio::test]
async fn a_step_is_tried_as_often_as_its_recipe_says() {
    let bed = Bed::new().await;
    bed.prepare().await;
    let mut patient = wait_for("late");
    patient.timeout_ms = 100;
    patient.retry = Some(pb::Retry {
        attempts: 100,
        backoff_ms: 10,
    });
    let command = bed.install(vec![patient]);
    let late = bed.root().join("late");
    let (result, ()) = tokio::join!(bed.gateway.run_well(command), async {
        let second_try = |message: &proto::v1::agent_message::Message| match message {
            proto::v1::agent_message::Message::Progress(p) => {
                p.message.contains("attempt 2").then_some(())
            }
            _ => None,
        };
        bed.gateway.wait("a second try", second_try).await;
        std::fs::write(late, "").unwrap();
    });
    assert_eq!(result.error, "");
}

#[tokio::test]
async fn a_step_whose_work_exists_is_not_done() {
    let bed = Bed::new().await;
    bed.prepare().await;
    std::fs::write(bed.root().join("there"), "").unwrap();
    let mut skipped = file("file", "x");
    skipped.creates = "there".to_owned();
    bed.gateway.run_well(bed.install(vec![skipped])).await;
    assert_eq!(bed.files(), ["there"]);
}

fn binary(source: &str) -> pb::Step {
    let (name, version) = ("tool".to_owned(), source.to_owned());
    step(
        "binary",
        StepAction::Binary(pb::Binary {
            name,
            source: source.to_owned(),
            version,
        }),
    )
}
