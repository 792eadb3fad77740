//! The generic checks on node migrations, with a connected source agent and with an unreachable one whose process
//! lives, on shared machines and on machines of the node's own.

use super::*;
use crate::engine::Outcome;
use crate::node_activities::CommandState;
use crate::testing::checks::{
    TestWorld, a_cancel_anywhere_unwinds, every_activity_may_fail_and_unwinds,
    every_activity_may_run_twice, every_call_may_be_the_last_of_a_process, went,
};
use crate::testing::migrate_world::{MachineSight, MigrateSight, MigrateWorld};
use crate::testing::node_world::NODE;
use crate::testing::{Faults, Post, Trace, When, run};

const NOTHING: MachineSight = MachineSight {
    folders: 0,
    is_running: false,
    keys: 0,
    claims: 0,
    plans: 0,
    machines: 0,
    agents: 0,
};
const HERE: MachineSight = MachineSight {
    folders: 1,
    is_running: true,
    keys: 1,
    ..NOTHING
};
const ON_ITS_MACHINE: MachineSight = MachineSight {
    claims: 1,
    plans: 1,
    machines: 1,
    agents: 1,
    ..HERE
};
const MOVED: MigrateSight = MigrateSight {
    place: "target",
    source: NOTHING,
    target: HERE,
    is_reserved: true,
    tokens: 0,
    state: "healthy",
    operation: "succeeded",
};
const UNDONE: MigrateSight = MigrateSight {
    place: "source",
    source: HERE,
    target: NOTHING,
    is_reserved: false,
    tokens: 0,
    state: "down",
    operation: "failed",
};
/// The final world for a node with a machine of its own.
const OWN_MOVED: MigrateSight = MigrateSight {
    target: ON_ITS_MACHINE,
    ..MOVED
};
const OWN_UNDONE: MigrateSight = MigrateSight {
    source: ON_ITS_MACHINE,
    ..UNDONE
};

/// A world whose source agent is unreachable.
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

/// A world with machines of the node's own; the host releases the old machine by itself.
struct Own(MigrateWorld);

impl TestWorld for Own {
    type Sight = MigrateSight;

    fn new(post: &Post) -> Self {
        let world = MigrateWorld::new(post);
        world.give_own_machines();
        Self(world)
    }

    fn activities(&self) -> crate::Activities {
        self.0.activities()
    }

    fn sight(&self) -> MigrateSight {
        self.0.clean();
        self.0.sight()
    }
}

/// The same world with an unreachable source agent.
struct OwnCutOff(Own);

impl TestWorld for OwnCutOff {
    type Sight = MigrateSight;

    fn new(post: &Post) -> Self {
        let world = Own::new(post);
        world.0.cut_source_off();
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
fn a_node_with_a_machine_of_its_own_moves_to_another_one_and_every_step_is_shown() {
    let (world, trace) = migrate(MigrateWorld::give_own_machines);
    assert_eq!(trace.outcome, Outcome::Completed("null".into()));
    let left = MachineSight {
        is_running: false,
        agents: 0,
        ..ON_ITS_MACHINE
    };
    let source = left;
    assert_eq!(
        world.sight(),
        MigrateSight {
            source,
            ..OWN_MOVED
        }
    );
    world.clean();
    assert_eq!(world.sight(), OWN_MOVED);
    let shown: Vec<String> = world.steps().into_iter().map(|(step, _)| step).collect();
    assert_eq!(shown, STEPS_WITH_MACHINE);
}

#[test]
fn a_machine_that_can_not_be_made_costs_the_old_one_nothing() {
    let good = went::<MigrateNode, Own>(&input(), &Faults::default());
    let made = good
        .trace
        .calls
        .iter()
        .position(|call| call == "create_machine");
    let faults = Faults {
        fail: made.map(|call| (call, When::After)),
        ..Faults::default()
    };
    let bad = went::<MigrateNode, Own>(&input(), &faults);
    assert_eq!(bad.world.sight(), OWN_UNDONE);
    let calls = bad.trace.calls;
    assert!(!calls.contains(&"fence_source".to_owned()), "{calls:?}");
    assert!(calls.contains(&"destroy_target".to_owned()), "{calls:?}");
}

#[test]
fn a_new_machine_whose_agent_never_comes_is_destroyed() {
    let (world, trace) = migrate(|world| {
        world.give_own_machines();
        world.lose_new_agent();
    });
    assert_eq!(world.sight(), OWN_UNDONE);
    let Outcome::Failed(failure) = &trace.outcome else {
        panic!("{trace:?}")
    };
    assert_eq!(
        (failure.code.as_str(), failure.step.as_str()),
        ("timed_out", "wait_for_agent")
    );
    assert!(trace.took >= Duration::from_mins(10));
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
    every_activity_may_fail_and_unwinds::<MigrateNode, Own>(&input(), &OWN_UNDONE);
    every_activity_may_fail_and_unwinds::<MigrateNode, OwnCutOff>(&input(), &OWN_UNDONE);
}

#[test]
fn every_activity_of_migrating_may_run_twice() {
    every_activity_may_run_twice::<MigrateNode, MigrateWorld>(&input());
    every_activity_may_run_twice::<MigrateNode, CutOff>(&input());
    every_activity_may_run_twice::<MigrateNode, Own>(&input());
    every_activity_may_run_twice::<MigrateNode, OwnCutOff>(&input());
}

#[test]
fn every_call_of_migrating_may_be_the_last_of_a_process() {
    every_call_may_be_the_last_of_a_process::<MigrateNode, MigrateWorld>(&input());
    every_call_may_be_the_last_of_a_process::<MigrateNode, CutOff>(&input());
    every_call_may_be_the_last_of_a_process::<MigrateNode, Own>(&input());
    every_call_may_be_the_last_of_a_process::<MigrateNode, OwnCutOff>(&input());
}

#[test]
fn a_cancel_of_migrating_anywhere_unwinds() {
    a_cancel_anywhere_unwinds::<MigrateNode, MigrateWorld>(&input(), &UNDONE);
    a_cancel_anywhere_unwinds::<MigrateNode, CutOff>(&input(), &UNDONE);
    a_cancel_anywhere_unwinds::<MigrateNode, Own>(&input(), &OWN_UNDONE);
    a_cancel_anywhere_unwinds::<MigrateNode, OwnCutOff>(&input(), &OWN_UNDONE);
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
    let target = MachineSight {
        folders: 1,
        ..NOTHING
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
    let shared = went::<MigrateNode, MigrateWorld>(&input(), &Faults::default());
    let own = went::<MigrateNode, Own>(&input(), &Faults::default());
    let before = "report_step check_migration report_step mark_migrating report_step claim_target";
    let machine = "report_step plan_machine report_step create_machine report_step bootstrap_agent \
        report_step check_agent";
    let after = "report_step fence_source send_command command_status place_on_target report_step \
        send_command command_status report_step send_command command_status report_step \
        mark_syncing report_step check_settled report_step release_source";
    assert_eq!(shared.trace.calls.join(" "), format!("{before} {after}"));
    let expected = format!("{before} {machine} {after}");
    assert_eq!(own.trace.calls.join(" "), expected);
}
