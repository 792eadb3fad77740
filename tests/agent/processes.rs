//! Commands for processes, and an agent that dies while they run.

use proto::v1 as pb;
use proto::v1::agent_message::Message as Out;
use proto::v1::command::Action;
use proto::v1::process_status::State;
use rustix::process::{Pid, Signal, kill_process};

use super::bed::{Bed, run_process};
use crate::support::wait::until;

/// The status of the only process, from a later beat.
async fn status(
    bed: &Bed,
    what: &str,
    is_met: impl Fn(&pb::ProcessStatus) -> bool,
) -> pb::ProcessStatus {
    bed.gateway.forget();
    bed.gateway
        .wait(what, |message| match message {
            Out::Beat(beat) => {
                let node = beat.nodes.iter().find(|node| node.node_id == bed.node)?;
                node.processes
                    .iter()
                    .find(|process| is_met(process))
                    .cloned()
            }
            _ => None,
        })
        .await
}

async fn running(bed: &Bed) -> pb::ProcessStatus {
    status(bed, "running", |process| {
        process.state() == State::Running && process.pid != 0
    })
    .await
}

fn kill(pid: u32) {
    kill_process(
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(),
        Signal::KILL,
    )
    .unwrap();
}

#[tokio::test]
async fn a_node_is_installed_stopped_started_restarted_and_removed() {
    let bed = Bed::new().await;
    let prepared = bed.prepare().await;
    assert_eq!(
        bed.prepare().await,
        prepared,
        "preparing twice changes nothing"
    );
    bed.gateway
        .run_well(bed.install(vec![run_process("p", "echo begun; exec sleep 1000")]))
        .await;
    let first = running(&bed).await;
    assert_eq!(bed.pids(), [i32::try_from(first.pid).unwrap()]);

    bed.gateway
        .run_well(bed.command(Action::Stop(pb::Stop {})))
        .await;
    assert!(bed.pids().is_empty());
    status(&bed, "stopped", |process| process.state() == State::Stopped).await;

    bed.gateway
        .run_well(bed.command(Action::Start(pb::Start {})))
        .await;
    let second = running(&bed).await;
    bed.gateway
        .run_well(bed.command(Action::Start(pb::Start {})))
        .await;
    assert_eq!(
        running(&bed).await.pid,
        second.pid,
        "starting twice changes nothing"
    );
    bed.gateway
        .run_well(bed.command(Action::Restart(pb::Restart {})))
        .await;
    assert_ne!(running(&bed).await.pid, second.pid);
    let log = std::fs::read_to_string(bed.root().join("logs/p.log")).unwrap();
    assert_eq!(log, "begun\n".repeat(3));

    bed.gateway
        .run_well(bed.command(Action::Uninstall(pb::Uninstall {})))
        .await;
    assert!(bed.pids().is_empty() && !bed.root().exists());
    bed.gateway
        .run_well(bed.command(Action::Uninstall(pb::Uninstall {})))
        .await;
}

#[tokio::test]
async fn a_killed_agent_finds_its_process_and_starts_no_second() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    bed.gateway
        .run_well(bed.install(vec![run_process("p", "exec sleep 1000")]))
        .await;
    let first = running(&bed).await;
    for _ in 0..3 {
        bed.restart_agent();
        assert_eq!(running(&bed).await.pid, first.pid);
        assert_eq!(bed.pids(), [i32::try_from(first.pid).unwrap()]);
    }
    // The agent restarts an adopted process as well.
    kill(first.pid);
    let second = status(&bed, "restarted", |p| {
        p.state() == State::Running && p.pid != first.pid
    })
    .await;
    assert_eq!(second.restarts, 1);
    bed.gateway
        .run_well(bed.command(Action::Stop(pb::Stop {})))
        .await;
    bed.restart_agent();
    status(&bed, "stopped", |process| process.state() == State::Stopped).await;
    assert!(bed.pids().is_empty());
}

#[tokio::test]
async fn a_killed_process_is_restarted_and_the_host_hears_of_it() {
    let bed = Bed::new().await;
    bed.prepare().await;
    bed.gateway
        .run_well(bed.install(vec![run_process("p", "exec sleep 1000")]))
        .await;
    kill(running(&bed).await.pid);
    // `running` has dropped earlier messages, including the event of the start.
    until("the events", || {
        let kinds = bed.gateway.event_kinds();
        let wanted = ["process_exited", "process_restarted"];
        if kinds.ends_with(&wanted.map(str::to_owned)) {
            Ok(())
        } else {
            Err(kinds)
        }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_died_with_the_agent_away_is_started_again() {
    let mut bed = Bed::new().await;
    bed.prepare().await;
    bed.gateway
        .run_well(bed.install(vec![run_process("p", "exec sleep 1000")]))
        .await;
    let first = running(&bed).await;
    bed.kill_agent();
    kill(first.pid);
    bed.gateway.hang_up();
    bed.start_agent();
    assert_ne!(running(&bed).await.pid, first.pid);
    assert_eq!(bed.pids().len(), 1);
}
