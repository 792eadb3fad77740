//! The generic checks on migrating, with an old agent that answers and with one that is cut off while its process lives.

use super::*;
use crate::engine::Outcome;
use crate::node_activities::CommandState;
use crate::testing::checks::{
    TestWorld, a_cancel_anywhere_unwinds, every_activity_may_fail_and_unwinds,
    every_activity_may_run_twice, every_call_may_be_the_last_of_a_process, went,
};
use crate::testing::migrate_world::{HostSight, MigrateSight, MigrateWorld};
use crate::testing::node_world::NODE;
use crate::testing::{Faults, Post, Trace, run};

const HERE: HostSight = HostSight {
    folders: 1,
    is_running: true,
};
const NOTHING: HostSight = HostSight {
    folders: 0,
    is_running: false,
};
const MOVED: MigrateSight = MigrateSight {
    place: "target",
    source: NOTHING,
    target: HERE,
    is_reserved: true,
    state: "healthy",
    operation: "succeeded",
};
const UNDONE: MigrateSight = MigrateSight {
    place: "source",
    source: HERE,
    target: NOTHING,
    is_reserved: false,
    state: "down",
    operation: "failed",
};

/// A world whose old agent is cut off.
struct CutOff(MigrateWorld);

impl TestWorld for CutOff {
    type Sight = MigrateSight;

    fn new(post: &Post) -> Self {
        let world = MigrateWorld::new(post);
        world.cut_source_off();
        Self(world)
    }

    fn activities(&self) -> crate::Activities {
        self.0.activities()
    }

    fn sight(&self) -> MigrateSight {
        self.0.sight()
    }
}

fn input() -> MigrateInput {
    MigrateInput::new(NODE, MigrateLimits::default())
}

fn migrate(prepare: impl Fn(&MigrateWorld)) -> (MigrateWorld, Trace) {
    let post = Post::default();
    let world = MigrateWorld::new(&post);
    prepare(&world);
    let trace = run::<MigrateNode>(
        "flow",
        &input(),
        &world.activities(),
        &post,
        &Faults::default(),
    );
    (world, trace)
}

fn stuck(error: &str) -> CommandState {
    CommandState::Stuck {
        step: String::new(),
        error: error.into(),
        output: String::new(),
    }
}

#[test]
fn a_node_moves_and_every_step_is_shown() {
    let (world, trace) = migrate(|_| {});
    assert_eq!(trace.outcome, Outcome::Completed("null".into()));
    assert_eq!(world.sight(), MOVED);
    let shown: Vec<String> = world.steps().into_iter().map(|(step, _)| step).collect();
    assert_eq!(shown, STEPS);
    assert!(
        !trace.calls.contains(&"check_fence".to_owned()),
        "the old agent's word is enough"
    );
}

#[test]
fn a_source_that_is_cut_off_is_waited_for_until_its_lease_is_over() {
    let (world, trace) = migrate(MigrateWorld::cut_source_off);
    assert_eq!(trace.outcome, Outcome::Completed("null".into()));
    assert_eq!(world.sight(), MOVED);
    let place = |name: &str| trace.calls.iter().position(|call| call == name).unwrap();
    assert!(place("fence_source") < place("check_fence"));
    assert!(place("check_fence") < place("place_on_target"));
}

#[test]
fn an_agent_that_says_that_it_could_not_stop_proves_nothing() {
    let (world, trace) = migrate(|world| {
        world.refuse(CommandAction::Stop, stuck("the process still runs"));
    });
    assert_eq!(world.sight(), MOVED);
    assert!(trace.calls.contains(&"check_fence".to_owned()));
}

#[test]
fn every_activity_of_migrating_may_fail_and_unwinds() {
    every_activity_may_fail_and_unwinds::<MigrateNode, MigrateWorld>(&input(), &UNDONE);
    every_activity_may_fail_and_unwinds::<MigrateNode, CutOff>(&input(), &UNDONE);
}

#[test]
fn every_activity_of_migrating_may_run_twice() {
    every_activity_may_run_twice::<MigrateNode, MigrateWorld>(&input());
    every_activity_may_run_twice::<MigrateNode, CutOff>(&input());
}

#[test]
fn every_call_of_migrating_may_be_the_last_of_a_process() {
    every_call_may_be_the_last_of_a_process::<MigrateNode, MigrateWorld>(&input());
    every_call_may_be_the_last_of_a_process::<MigrateNode, CutOff>(&input());
}

#[test]
fn a_cancel_of_migrating_anywhere_unwinds() {
    a_cancel_anywhere_unwinds::<MigrateNode, MigrateWorld>(&input(), &UNDONE);
    a_cancel_anywhere_unwinds::<MigrateNode, CutOff>(&input(), &UNDONE);
}

#[test]
fn a_target_that_can_not_be_cleared_is_fenced_before_the_source_runs_again() {
    let (world, trace) = migrate(|world| {
        let failed = CommandState::Failed {
            step: "download".into(),
            error: "the checksum differs".into(),
            output: "404".into(),
        };
        world.refuse(CommandAction::Install, failed);
        world.refuse(CommandAction::Uninstall, stuck("the disk is broken"));
    });
    let target = HostSight {
        folders: 1,
        is_running: false,
    };
    assert_eq!(world.sight(), MigrateSight { target, ..UNDONE });
    let Outcome::Failed(failure) = &trace.outcome else {
        panic!("{trace:?}")
    };
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("command_failed", "install")
    );
    let leftovers: Vec<&str> = failure
        .leftovers
        .iter()
        .map(|left| left.undo.as_str())
        .collect();
    assert_eq!(leftovers, ["restore_source"]);
    let place = |name: &str| trace.calls.iter().position(|call| call == name).unwrap();
    assert!(place("fence_target") < place("check_fence"));
    assert!(place("check_fence") < place("restore_source"));
    assert_eq!(world.failure().as_ref(), Some(failure));
}

/// See the test of the same name in `provision_node`.
#[test]
fn version_1_0_0_calls_what_it_always_called() {
    assert_eq!(MigrateNode::VERSION, "1.0.0");
    let calls = went::<MigrateNode, MigrateWorld>(&input(), &Faults::default())
        .trace
        .calls;
    let expected = "report_step check_migration report_step mark_migrating report_step \
        reserve_target report_step fence_source send_command command_status place_on_target \
        report_step send_command command_status report_step send_command command_status \
        report_step mark_syncing report_step check_settled report_step release_source";
    assert_eq!(calls.join(" "), expected);
}
