//! The checks that every workflow must pass: each injects a fault at every call of the workflow.

use std::fmt::Debug;

use super::{Faults, Post, Trace, When, run};
use crate::activity::Activities;
use crate::engine::Outcome;
use crate::workflow::Workflow;

/// A world that a workflow acts on.
pub trait TestWorld {
    /// What a test compares: everything that a workflow can leave behind.
    type Sight: Debug + PartialEq;

    /// Creates a world whose activities send their messages with `post`.
    fn new(post: &Post) -> Self;

    /// The implementations of the activities.
    fn activities(&self) -> Activities;

    /// The current content of the world.
    fn sight(&self) -> Self::Sight;
}

/// A world and the run of a workflow in it.
pub struct Went<T: TestWorld> {
    /// The world.
    pub world: T,
    /// The run.
    pub trace: Trace,
}

/// Runs a workflow in a new world.
pub fn went<W: Workflow, T: TestWorld>(input: &W::Input, faults: &Faults) -> Went<T> {
    let post = Post::default();
    let world = T::new(&post);
    let trace = run::<W>("flow", input, &world.activities(), &post, faults);
    Went { world, trace }
}

/// Fails every call of a successful run, before and after its effect. The workflow either succeeds with everything in
/// place, or fails with the world as in `undone` and names the failed call; the same when all undos fail once.
pub fn every_activity_may_fail_and_unwinds<W: Workflow, T: TestWorld>(
    input: &W::Input,
    undone: &T::Sight,
) {
    let good = went::<W, T>(input, &Faults::default());
    assert!(
        matches!(good.trace.outcome, Outcome::Completed(_)),
        "{:?}",
        good.trace
    );
    for (number, name) in good.trace.calls.iter().enumerate() {
        for when in [When::Before, When::After] {
            for is_flaky in [false, true] {
                let faults = Faults {
                    fail: Some((number, when)),
                    is_flaky,
                    ..Faults::default()
                };
                let bad = went::<W, T>(input, &faults);
                let place = format!(
                    "`{name}` (call {number}) failed {when:?} its effect: {:?}",
                    bad.trace
                );
                match &bad.trace.outcome {
                    Outcome::Completed(_) => {
                        assert_eq!(bad.world.sight(), good.world.sight(), "{place}");
                    }
                    Outcome::Failed(failure) => {
                        assert_eq!(bad.world.sight(), *undone, "{place}");
                        assert_eq!(failure.code, "injected", "{place}");
                    }
                    Outcome::Running => panic!("{place}"),
                }
            }
        }
    }
}

/// Runs every call twice, in a successful run and in every failing one; the world must look the same.
pub fn every_activity_may_run_twice<W: Workflow, T: TestWorld>(input: &W::Input) {
    let once = went::<W, T>(input, &Faults::default());
    let twice = went::<W, T>(
        input,
        &Faults {
            is_doubled: true,
            ..Faults::default()
        },
    );
    assert_eq!(once.trace.outcome, twice.trace.outcome);
    assert_eq!(once.world.sight(), twice.world.sight());
    for number in 0..once.trace.calls.len() {
        for when in [When::Before, When::After] {
            let fail = Some((number, when));
            let once = went::<W, T>(
                input,
                &Faults {
                    fail,
                    ..Faults::default()
                },
            );
            let twice = went::<W, T>(
                input,
                &Faults {
                    fail,
                    is_doubled: true,
                    ..Faults::default()
                },
            );
            assert_eq!(
                once.trace.outcome, twice.trace.outcome,
                "call {number} {when:?}"
            );
            assert_eq!(
                once.world.sight(),
                twice.world.sight(),
                "call {number} {when:?}"
            );
        }
    }
}

/// Kills the process after every call, recorded or not, in a successful run and in a failing one.
pub fn every_call_may_be_the_last_of_a_process<W: Workflow, T: TestWorld>(input: &W::Input) {
    let n_good = went::<W, T>(input, &Faults::default()).trace.calls.len();
    for fail in [
        None,
        Some((n_good - 1, When::Before)),
        Some((n_good - 1, When::After)),
    ] {
        let unkilled = went::<W, T>(
            input,
            &Faults {
                fail,
                ..Faults::default()
            },
        );
        for after in 1..=unkilled.trace.calls.len() {
            for when in [When::Before, When::After] {
                let faults = Faults {
                    fail,
                    kill_after: Some((after, when)),
                    ..Faults::default()
                };
                let killed = went::<W, T>(input, &faults);
                let place = format!("killed after {after} calls, {when:?}, failing {fail:?}");
                assert_eq!(killed.trace.outcome, unkilled.trace.outcome, "{place}");
                assert_eq!(killed.trace.calls, unkilled.trace.calls, "{place}");
                assert_eq!(killed.world.sight(), unkilled.world.sight(), "{place}");
            }
        }
    }
}

/// Cancels after every number of calls. The workflow either succeeds with everything in place, or ends as cancelled
/// with the world as in `undone`.
pub fn a_cancel_anywhere_unwinds<W: Workflow, T: TestWorld>(input: &W::Input, undone: &T::Sight) {
    let good = went::<W, T>(input, &Faults::default());
    for after in 0..=good.trace.calls.len() {
        let cancelled = went::<W, T>(
            input,
            &Faults {
                cancel_after: Some(after),
                ..Faults::default()
            },
        );
        let place = format!("cancelled after {after} calls: {:?}", cancelled.trace);
        match &cancelled.trace.outcome {
            Outcome::Completed(_) => {
                assert!(after + 1 >= good.trace.calls.len(), "{place}");
                assert_eq!(cancelled.world.sight(), good.world.sight(), "{place}");
            }
            Outcome::Failed(failure) => {
                assert_eq!(failure.code, "cancelled", "{place}");
                assert_eq!(cancelled.world.sight(), *undone, "{place}");
            }
            Outcome::Running => panic!("{place}"),
        }
    }
}
