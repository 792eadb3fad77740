//! kill -9 of the agent at any point of a command, and how the next agent continues.

use std::path::Path;
use std::time::Duration;

use proto::v1 as pb;
use proto::v1::command_result::Outcome;
use proto::v1::host_message::Message as In;

use super::bed::{Bed, directory, file, run_process, wait_for};
use crate::support::wait::until;

/// Waits until the journal has a started step with this index.
async fn started(bed: &Bed, command: &pb::Command, index: usize) {
    let path = bed
        .folder
        .path()
        .join("state/journal")
        .join(format!("{}.json", command.id));
    until("the step to start", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let n_steps = record["steps"].as_array().map_or(0, Vec::len);
        if n_steps > index { Ok(()) } else { Err(text) }
    })
    .await;
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .count()
}

#[tokio::test]
async fn an_agent_killed_in_each_step_goes_on_and_does_none_twice() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    let mut steps = Vec::new();
    for n in 0..4 {
        steps.push(run_process(
            &format!("p{n}"),
            &format!("echo x >> count{n}; exec sleep 1000"),
        ));
        steps.push(wait_for(&format!("gate{n}")));
    }
    let command = bed.install(steps);
    bed.gateway.send(In::Command(command.clone())).await;
    for n in 0..4 {
        started(&bed, &command, 2 * n + 1).await;
        bed.restart_agent();
        std::fs::write(bed.root().join(format!("gate{n}")), "").unwrap();
    }
    let result = bed.gateway.result(&command.id).await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{result:?}");
    for n in 0..4 {
        let count = bed.root().join(format!("count{n}"));
        until("the process to start", || {
            if count.exists() { Ok(()) } else { Err(()) }
        })
        .await;
        assert_eq!(lines(&count), 1, "process {n} was started more than once");
    }
    assert_eq!(bed.pids().len(), 4);
}

#[tokio::test]
async fn an_agent_killed_at_odd_moments_ends_at_the_same_place() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    let steps = |marker: &str| {
        let mut steps: Vec<_> = (0..20)
            .map(|n| file(&format!("d{n}/file"), marker))
            .collect();
        steps.push(run_process("p", "echo x >> count; exec sleep 1000"));
        steps
    };
    let command = bed.install(steps("1"));
    bed.gateway.send(In::Command(command.clone())).await;
    for n in 1..8 {
        // The test is about the moment, so there is no value to wait for.
        tokio::time::sleep(Duration::from_millis(n * 13)).await;
        bed.restart_agent();
        // A host delivers unanswered commands again.
        bed.gateway.send(In::Command(command.clone())).await;
    }
    let result = bed.gateway.result(&command.id).await;
    assert_eq!(result.outcome(), Outcome::Succeeded, "{result:?}");
    assert_eq!(
        bed.files()
            .iter()
            .filter(|name| name.starts_with('d'))
            .count(),
        20
    );
    let count = bed.root().join("count");
    until("the process to start", || {
        if count.exists() { Ok(()) } else { Err(()) }
    })
    .await;
    assert_eq!((lines(&count), bed.pids().len()), (1, 1));
}

#[tokio::test]
async fn a_command_whose_time_passed_while_the_agent_was_away_is_undone() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    let mut command = bed.install(vec![
        directory("data"),
        run_process("p", "exec sleep 1000"),
        wait_for("never"),
    ]);
    let soon = std::time::SystemTime::now() + Duration::from_secs(2);
    let soon = soon.duration_since(std::time::UNIX_EPOCH).unwrap();
    command.deadline_ms = i64::try_from(soon.as_millis()).unwrap();
    bed.gateway.send(In::Command(command.clone())).await;
    started(&bed, &command, 2).await;
    bed.kill_agent();
    bed.gateway.hang_up();
    until("the time to pass", || {
        if soon
            < std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
        {
            Ok(())
        } else {
            Err(())
        }
    })
    .await;
    bed.start_agent();
    let result = bed.gateway.result(&command.id).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:?}");
    assert!(result.error.contains("deadline has passed"), "{result:?}");
    assert!(
        bed.pids().is_empty() && bed.files().is_empty(),
        "{:?}",
        bed.files()
    );
}

#[tokio::test]
async fn an_agent_killed_while_it_undoes_goes_on_undoing() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    let mut steps: Vec<_> = (0..10).map(|n| file(&format!("d{n}/file"), "x")).collect();
    // Each process uses its whole grace period, so undoing takes time.
    for n in 0..3 {
        steps.push(run_process(
            &format!("p{n}"),
            "trap '' TERM; while :; do sleep 0.1; done",
        ));
    }
    let mut never = wait_for("never");
    never.timeout_ms = 100;
    steps.push(never);
    let command = bed.install(steps);
    bed.gateway.send(In::Command(command.clone())).await;
    let journal = bed
        .folder
        .path()
        .join("state/journal")
        .join(format!("{}.json", command.id));
    let look = || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        if text.contains("undoing") {
            Ok(())
        } else {
            Err(text)
        }
    };
    until("undoing to start", look).await;
    bed.restart_agent();
    let result = bed.gateway.result(&command.id).await;
    assert_eq!(result.outcome(), Outcome::Failed, "{result:?}");
    assert_eq!(result.step, "never");
    assert!(
        bed.pids().is_empty() && bed.files().is_empty(),
        "{:?}",
        bed.files()
    );
}
