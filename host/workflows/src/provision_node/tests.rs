//! The generic checks on provisioning, and its special cases.

use super::*;
use crate::engine::Outcome;
use crate::node_activities::CommandState;
use crate::testing::checks::{
    TestWorld, a_cancel_anywhere_unwinds, every_activity_may_fail_and_unwinds,
    every_activity_may_run_twice, every_call_may_be_the_last_of_a_process, went,
};
use crate::testing::node_world::{NODE, NodeSight, NodeWorld};
use crate::testing::{Faults, Post, run};

const UNDONE: NodeSight = NodeSight {
    reserved: 0,
    machines: 0,
    agents: 0,
    plans: 0,
    tokens: 0,
    keys: 0,
    retired_keys: 0,
    folders: 0,
    processes: 0,
    state: "failed",
    operation: "failed",
};

fn input() -> ProvisionInput {
    ProvisionInput::new(NODE, ProvisionLimits::default())
}

/// Provisions a node in a prepared world.
fn provision(prepare: impl Fn(&NodeWorld)) -> (NodeWorld, crate::testing::Trace) {
    let post = Post::default();
    let world = NodeWorld::new(&post);
    prepare(&world);
    let trace = run::<ProvisionNode>(
        "flow",
        &input(),
        &world.activities(),
        &post,
        &Faults::default(),
    );
    (world, trace)
}

fn failure(trace: &crate::testing::Trace) -> &Failure {
    match &trace.outcome {
        Outcome::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn provisioning_ends_with_one_process_and_shows_every_step() {
    let (world, trace) = provision(|_| {});
    assert_eq!(trace.outcome, Outcome::Completed("null".into()));
    let there = NodeSight {
        reserved: 1,
        machines: 1,
        agents: 1,
        plans: 1,
        tokens: 0,
        keys: 1,
        retired_keys: 0,
        folders: 1,
        processes: 1,
        state: "healthy",
        operation: "succeeded",
    };
    assert_eq!(world.sight(), there);
    let shown: Vec<String> = world.steps().into_iter().map(|(step, _)| step).collect();
    assert_eq!(shown, STEPS);
}

#[test]
fn every_activity_of_provisioning_may_fail_and_unwinds() {
    every_activity_may_fail_and_unwinds::<ProvisionNode, NodeWorld>(&input(), &UNDONE);
}

#[test]
fn every_activity_of_provisioning_may_run_twice() {
    every_activity_may_run_twice::<ProvisionNode, NodeWorld>(&input());
}

#[test]
fn every_call_of_provisioning_may_be_the_last_of_a_process() {
    every_call_may_be_the_last_of_a_process::<ProvisionNode, NodeWorld>(&input());
}

#[test]
fn a_cancel_of_provisioning_anywhere_unwinds() {
    a_cancel_anywhere_unwinds::<ProvisionNode, NodeWorld>(&input(), &UNDONE);
}

#[test]
fn lost_messages_cost_seconds_only() {
    let (told, quick) = provision(|_| {});
    let (untold, slow) = provision(NodeWorld::lose_messages);
    assert_eq!(told.sight(), untold.sight());
    assert_eq!(quick.outcome, slow.outcome);
    assert_eq!(quick.took, Duration::ZERO);
    assert!(slow.took <= Duration::from_secs(10), "{:?}", slow.took);
}

#[test]
fn a_recipe_that_fails_is_undone_and_shown_with_its_output() {
    let (world, trace) = provision(|world| {
        let refusal = CommandState::Failed {
            step: "download".into(),
            error: "the checksum differs".into(),
            output: "404".into(),
        };
        world.refuse(CommandAction::Install, refusal);
    });
    assert_eq!(world.sight(), UNDONE);
    let failure = failure(&trace);
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("command_failed", "install")
    );
    assert_eq!(
        failure.message,
        "recipe step `download`: the checksum differs"
    );
    assert_eq!(failure.output, "404");
    assert_eq!(failure.leftovers, []);
    assert_eq!(world.failure().as_ref(), Some(failure));
    let undone = |undo: &str| (undo.to_owned(), StepState::Undone);
    let steps = world.steps();
    let undos = [
        "uninstall",
        "revoke_enrolment_token",
        "delete_keys",
        "destroy_machine",
    ]
    .map(undone);
    assert!(steps.ends_with(&undos), "{steps:?}");
}

#[test]
fn what_cannot_be_undone_is_named_and_does_not_keep_the_rest() {
    let (world, trace) = provision(|world| {
        let stuck = |error: &str| CommandState::Stuck {
            step: "start".into(),
            error: error.into(),
            output: String::new(),
        };
        world.refuse(CommandAction::Install, stuck("the disk is full"));
        world.refuse(CommandAction::Uninstall, stuck("the disk is broken"));
    });
    assert_eq!(
        world.sight(),
        NodeSight {
            folders: 1,
            ..UNDONE
        }
    );
    let failure = failure(&trace);
    assert_eq!(failure.code, "command_stuck");
    assert_eq!(failure.leftovers.len(), 1);
    assert_eq!(failure.leftovers[0].undo, "uninstall");
    assert!(
        failure.leftovers[0].message.contains("the disk is broken"),
        "{failure:?}"
    );
    let n_uninstalls = trace
        .calls
        .iter()
        .filter(|name| *name == "send_command")
        .count()
        - 2;
    assert_eq!(n_uninstalls, 3, "an undo is retried");
}

#[test]
fn an_agent_that_never_comes_ends_the_wait() {
    let (world, trace) = provision(NodeWorld::take_agent_away);
    assert_eq!(world.sight(), UNDONE);
    let failure = failure(&trace);
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("timed_out", "wait_for_agent")
    );
    assert_eq!(
        failure.message,
        "timed out after 10m waiting for the machine's agent"
    );
    assert!(trace.took >= Duration::from_mins(10));
}

/// A running workflow continues with the code that it started with: whoever changes this list gives the changed code
/// a new version, and keeps the old version registered until its last workflow has ended.
#[test]
fn version_1_0_0_calls_what_it_always_called() {
    assert_eq!(ProvisionNode::VERSION, "1.0.0");
    let calls = went::<ProvisionNode, NodeWorld>(&input(), &Faults::default())
        .trace
        .calls;
    let expected = "report_step validate_inputs report_step claim_machine report_step generate_keys \
        report_step plan_machine report_step create_machine report_step bootstrap_agent report_step \
        check_agent report_step send_command command_status report_step send_command \
        command_status report_step mark_syncing report_step check_node_health report_step finish";
    assert_eq!(calls.join(" "), expected);
}
