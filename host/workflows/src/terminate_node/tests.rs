//! The generic checks on terminating, and its special cases.

use super::*;
use crate::engine::Outcome;
use crate::node_activities::CommandState;
use crate::testing::checks::{
    TestWorld, every_activity_may_run_twice, every_call_may_be_the_last_of_a_process, went,
};
use crate::testing::node_world::{NODE, NodeSight, NodeWorld};
use crate::testing::{Faults, Post, Trace, When, run};

const GONE: NodeSight = NodeSight {
    reserved: 0,
    machines: 0,
    agents: 0,
    plans: 0,
    tokens: 0,
    keys: 0,
    retired_keys: 1,
    folders: 0,
    processes: 0,
    state: "terminated",
    operation: "succeeded",
};

/// A world in which the node runs.
struct Installed(NodeWorld);

impl TestWorld for Installed {
    type Sight = NodeSight;

    fn new(post: &Post) -> Self {
        let world = NodeWorld::new(post);
        world.install();
        Self(world)
    }

    fn activities(&self) -> crate::Activities {
        self.0.activities()
    }

    fn sight(&self) -> NodeSight {
        self.0.sight()
    }
}

/// An input with every option.
fn input() -> TerminateInput {
    TerminateInput {
        backup_keys: true,
        ..TerminateInput::new(NODE)
    }
}

fn terminate(input: &TerminateInput, prepare: impl Fn(&NodeWorld)) -> (NodeWorld, Trace) {
    let post = Post::default();
    let world = Installed::new(&post).0;
    prepare(&world);
    let trace = run::<TerminateNode>(
        "flow",
        input,
        &world.activities(),
        &post,
        &Faults::default(),
    );
    (world, trace)
}

fn broken_agent(world: &NodeWorld) {
    let stuck = CommandState::Stuck {
        step: String::new(),
        error: "the disk is broken".into(),
        output: String::new(),
    };
    world.refuse(CommandAction::Stop, stuck.clone());
    world.refuse(CommandAction::Uninstall, stuck);
}

#[test]
fn terminating_leaves_nothing_and_shows_every_step() {
    let (world, trace) = terminate(&input(), |_| {});
    assert!(matches!(trace.outcome, Outcome::Completed(_)), "{trace:?}");
    assert_eq!(world.sight(), GONE);
    let shown: Vec<String> = world.steps().into_iter().map(|(step, _)| step).collect();
    assert_eq!(shown, STEPS);
}

#[test]
fn keys_are_copied_only_when_that_is_asked_for() {
    let (world, trace) = terminate(&TerminateInput::new(NODE), |_| {});
    assert!(matches!(trace.outcome, Outcome::Completed(_)), "{trace:?}");
    let shown: Vec<String> = world.steps().into_iter().map(|(step, _)| step).collect();
    assert_eq!(shown, steps(false));
    assert!(!trace.calls.iter().any(|name| name == BackUpKeys::NAME));
    assert_eq!(steps(true), STEPS);
}

#[test]
fn nothing_is_done_when_keys_can_not_be_copied() {
    let good = went::<TerminateNode, Installed>(&input(), &Faults::default());
    let calls = &good.trace.calls;
    let copies = calls.iter().position(|name| *name == BackUpKeys::NAME);
    let faults = Faults {
        fail: Some((copies.unwrap(), When::Before)),
        ..Faults::default()
    };
    let bad = went::<TerminateNode, Installed>(&input(), &faults);
    let Outcome::Failed(failure) = &bad.trace.outcome else {
        panic!("{:?}", bad.trace)
    };
    assert_eq!(failure.step, BACK_UP_KEYS);
    untouched(&bad.world);
}

/// Asserts that nothing was done to the node.
fn untouched(world: &Installed) {
    let expected = NodeSight {
        operation: "failed",
        ..Installed::new(&Post::default()).sight()
    };
    assert_eq!(world.sight(), expected);
}

#[test]
fn what_is_gone_already_is_no_failure() {
    let post = Post::default();
    let world = NodeWorld::new(&post);
    world.take_agent_away();
    let trace = run::<TerminateNode>(
        "flow",
        &input(),
        &world.activities(),
        &post,
        &Faults::default(),
    );
    assert!(matches!(trace.outcome, Outcome::Completed(_)), "{trace:?}");
    let nothing_retired = NodeSight {
        retired_keys: 0,
        ..GONE
    };
    assert_eq!(world.sight(), nothing_retired);
}

/// A termination is its own undo: whatever fails, it ends with nothing left, or reports what is left.
#[test]
fn every_activity_of_terminating_may_fail_and_unwinds() {
    let good = went::<TerminateNode, Installed>(&input(), &Faults::default());
    for (number, name) in good.trace.calls.iter().enumerate() {
        for when in [When::Before, When::After] {
            let faults = Faults {
                fail: Some((number, when)),
                ..Faults::default()
            };
            let bad = went::<TerminateNode, Installed>(&input(), &faults);
            let place = format!("`{name}` (call {number}) {when:?}: {:?}", bad.trace);
            match &bad.trace.outcome {
                Outcome::Completed(_) => assert_eq!(bad.world.sight(), GONE, "{place}"),
                Outcome::Failed(failure) if failure.step == BACK_UP_KEYS => untouched(&bad.world),
                Outcome::Failed(failure) => {
                    assert_eq!(failure.code, "injected", "{place}");
                    assert!(STEPS.contains(&failure.step.as_str()), "{place}");
                    assert_eq!(bad.world.sight().state, "failed", "{place}");
                    assert_eq!(bad.world.sight().operation, "failed", "{place}");
                }
                Outcome::Running => panic!("{place}"),
            }
        }
    }
}

#[test]
fn every_activity_of_terminating_may_run_twice() {
    every_activity_may_run_twice::<TerminateNode, Installed>(&input());
}

#[test]
fn every_call_of_terminating_may_be_the_last_of_a_process() {
    every_call_may_be_the_last_of_a_process::<TerminateNode, Installed>(&input());
}

#[test]
fn a_cancel_does_not_stop_it() {
    let good = went::<TerminateNode, Installed>(&input(), &Faults::default());
    for after in 0..good.trace.calls.len() {
        let faults = Faults {
            cancel_after: Some(after),
            ..Faults::default()
        };
        let went = went::<TerminateNode, Installed>(&input(), &faults);
        assert_eq!(went.world.sight(), GONE, "{after}");
    }
}

#[test]
fn an_agent_that_cannot_remove_the_node_fails_it_and_says_so() {
    let (world, trace) = terminate(&input(), broken_agent);
    let Outcome::Failed(failure) = &trace.outcome else {
        panic!("{trace:?}")
    };
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("command_stuck", "uninstall")
    );
    assert_eq!(failure.leftovers.len(), 1);
    let left = NodeSight {
        reserved: 1,
        machines: 1,
        agents: 1,
        plans: 1,
        keys: 1,
        retired_keys: 0,
        folders: 1,
        processes: 1,
        ..GONE
    };
    assert_eq!(
        world.sight(),
        NodeSight {
            state: "failed",
            operation: "failed",
            ..left
        }
    );
}

#[test]
fn force_goes_on_and_names_what_was_left() {
    let (world, trace) = terminate(
        &TerminateInput {
            force: true,
            ..input()
        },
        broken_agent,
    );
    let Outcome::Completed(text) = &trace.outcome else {
        panic!("{trace:?}")
    };
    let terminated: Terminated = serde_json::from_str(text).unwrap();
    assert_eq!(terminated.leftovers[0].undo, "uninstall");
    assert_eq!(
        world.sight(),
        NodeSight {
            folders: 1,
            processes: 1,
            ..GONE
        }
    );
}

/// See the test of the same name in `provision_node`.
#[test]
fn version_1_0_0_calls_what_it_always_called() {
    assert_eq!(TerminateNode::VERSION, "1.0.0");
    let calls = went::<TerminateNode, Installed>(&input(), &Faults::default())
        .trace
        .calls;
    let expected = "report_step back_up_keys report_step mark_terminating report_step send_command \
        command_status report_step send_command command_status report_step destroy_machine report_step \
        retire_keys report_step mark_terminated";
    assert_eq!(calls.join(" "), expected);
}
