//! Processes that hold keys run only while the host confirms the node, even if the agent dies or hangs.

use std::time::Duration;

use proto::v1 as pb;
use proto::v1::command::Action;
use proto::v1::command_result::Outcome;
use proto::v1::key_file::Encoding;
use proto::v1::step::Action as StepAction;
use rustix::process::{Pid, Signal, getpgid, kill_process};
use rustix::time::{ClockId, clock_gettime};

use super::bed::{Bed, run_process, step};
use crate::support::dev::programs;
use crate::support::wait::eventually;

const LEASE: Duration = Duration::from_secs(3);
/// A lease, plus time for a busy machine.
const FENCED: Duration = Duration::from_secs(20);
/// Exits on SIGTERM.
const POLITE: &str = "trap 'echo ended; exit 0' TERM; while :; do sleep 0.05; done";
/// Ignores SIGTERM.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.05; done";

/// A node with a key and a process, confirmed by its host.
async fn keyed(script: &str) -> Bed {
    let mut bed = Bed::without_agent().await;
    bed.gateway.set_lease(LEASE);
    let guard = programs().join("bellwether-agent");
    bed.set("BELLWETHER_TEST_GUARD", guard.to_str().unwrap());
    bed.start_agent();
    bed.prepare().await;
    let key = pb::KeyFile {
        name: "p2p".to_owned(),
        path: "config/p2p.key".to_owned(),
        encoding: Encoding::Hex.into(),
    };
    let steps = vec![step("p2p", StepAction::Key(key)), run_process("p", script)];
    bed.gateway.run_well(bed.install(steps)).await;
    // The guard, its process, and at times a `sleep` of the process.
    runs(&bed).await;
    bed
}

async fn runs(bed: &Bed) {
    eventually("the process runs", FENCED, async || {
        (bed.pids().len() >= 2).then_some(())
    })
    .await;
}

async fn is_gone(bed: &Bed, what: &str) {
    eventually(what, FENCED, async || bed.pids().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_process_with_keys_ends_when_the_host_falls_silent_and_runs_again_when_it_answers() {
    let bed = keyed(POLITE).await;
    bed.gateway.set_deaf(true);
    is_gone(&bed, "the process ends without an answer").await;
    let log = std::fs::read_to_string(bed.root().join("logs/p.log")).unwrap();
    assert!(
        log.contains("sends SIGTERM to the process") && log.contains("ended"),
        "{log}"
    );
    assert!(!log.contains("killed"), "it had time to end: {log}");
    bed.gateway.set_deaf(false);
    runs(&bed).await;
    let is_reported = async || {
        bed.gateway
            .event_kinds()
            .contains(&"process_fenced".to_owned())
            .then_some(())
    };
    eventually("the host hears why it ended", FENCED, is_reported).await;
}

#[tokio::test]
async fn a_process_with_keys_does_not_outlive_its_lease_when_its_agent_is_killed_or_frozen() {
    let mut bed = keyed(STUBBORN).await;
    bed.kill_agent();
    is_gone(&bed, "the process is killed without an agent").await;
    bed.gateway.hang_up();
    bed.start_agent();
    runs(&bed).await;
    bed.signal_agent(Signal::STOP);
    is_gone(&bed, "the process is killed beside a frozen agent").await;
    bed.signal_agent(Signal::CONT);
    runs(&bed).await;
}

#[tokio::test]
async fn an_agent_that_is_back_within_the_lease_finds_the_process_as_it_was() {
    let mut bed = keyed(STUBBORN).await;
    let leader = leader(&bed);
    bed.restart_agent();
    bed.gateway.forget();
    let beats = |message: &pb::agent_message::Message| {
        matches!(message, pb::agent_message::Message::Beat(_)).then_some(())
    };
    bed.gateway.wait("a beat", beats).await;
    assert_eq!(self::leader(&bed), leader);
}

#[tokio::test]
async fn a_process_with_keys_does_not_outlive_its_guard() {
    let bed = keyed(STUBBORN).await;
    let (before, guard) = (bed.pids(), leader(&bed));
    kill_process(Pid::from_raw(guard).unwrap(), Signal::KILL).unwrap();
    let is_another = async || {
        let now = bed.pids();
        (now.len() >= 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
    };
    eventually("guard and process are new", FENCED, is_another).await;
}

#[tokio::test]
async fn a_start_that_comes_without_a_lease_starts_every_process_as_soon_as_there_is_one() {
    let bed = keyed(POLITE).await;
    let second = bed.install(vec![run_process("q", POLITE)]);
    bed.gateway.run_well(second).await;
    let stop = bed.command(Action::Stop(pb::Stop {}));
    bed.gateway.run_well(stop).await;
    is_gone(&bed, "both are stopped").await;
    bed.gateway.set_deaf(true);
    eventually("the lease has expired", FENCED, async || {
        let lease = std::fs::read(bed.root().join("run/lease")).unwrap();
        let lease: serde_json::Value = serde_json::from_slice(&lease).unwrap();
        let now = clock_gettime(ClockId::Boottime).tv_sec * 1_000;
        (lease["expired"].as_i64().unwrap() < now).then_some(())
    })
    .await;
    let start = bed.command(Action::Start(pb::Start {}));
    let refused = bed.gateway.run(start).await;
    assert_eq!(refused.outcome(), Outcome::Failed, "{refused:#?}");
    bed.gateway.set_deaf(false);
    eventually("both processes run", FENCED, async || {
        let leaders = bed.pids().into_iter().filter(|pid| group(*pid) == *pid);
        (leaders.count() == 2).then_some(())
    })
    .await;
}

/// The guard, which leads the group.
fn leader(bed: &Bed) -> i32 {
    bed.pids()
        .into_iter()
        .find(|pid| group(*pid) == *pid)
        .unwrap()
}

fn group(pid: i32) -> i32 {
    getpgid(Pid::from_raw(pid)).map_or(0, |group| group.as_raw_nonzero().get())
}
