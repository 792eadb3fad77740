//! What stands between the host and a use of a plugin: a breaker, and the word on what is wrong with it.
//!
//! One per loaded use, so that a new revision begins with a closed one: whoever mends a plugin need not wait for a pause.

use std::sync::{Mutex, MutexGuard, PoisonError};

use host_domain::breaker::Breaker;
use host_domain::time::Millis;
use host_runtime::CallError;

/// What is wrong with a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// The stable name of the error.
    pub(crate) code: String,
    /// For people.
    pub(crate) error: String,
    /// Whether it failed so often that it is called only now and then.
    pub(crate) is_open: bool,
}

impl Trouble {
    /// A plugin that could not be loaded.
    pub(crate) fn broken(reason: &str) -> Self {
        Self {
            code: "plugin_broken".to_owned(),
            error: reason.to_owned(),
            is_open: false,
        }
    }

    /// A call that failed.
    pub(crate) fn of(error: &CallError, is_open: bool) -> Self {
        Self {
            code: error.code().to_owned(),
            error: error.to_string(),
            is_open,
        }
    }
}

/// Guards one use of a plugin.
#[derive(Debug, Default)]
pub(crate) struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    breaker: Breaker,
    trouble: Option<Trouble>,
}

/// A call that was kept away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAway {
    /// What it did before.
    pub(crate) trouble: Trouble,
    /// From when on another call may pass.
    pub(crate) until: Millis,
}

impl Guard {
    /// Asks for a call, which has to be reported.
    pub(crate) fn allow(&self, now: Millis) -> Result<(), KeptAway> {
        let mut state = self.lock();
        if state.breaker.allow(now) {
            return Ok(());
        }
        let trouble = state.trouble.clone();
        Err(KeptAway {
            // A breaker opens by a fault only, and that leaves its trouble here.
            trouble: trouble.unwrap_or_else(|| Trouble::broken("it failed too often")),
            until: state.breaker.rests_until(now).unwrap_or(now),
        })
    }

    /// Says how a call ended. A call that was not made says nothing of the plugin; a failure of something else is its right answer.
    pub(crate) fn report(&self, outcome: Result<(), &CallError>, now: Millis) {
        let mut state = self.lock();
        match outcome {
            Err(CallError::Busy | CallError::NoSuchFunction { .. }) => {}
            Err(error) if error.is_fault() => {
                state.breaker.report(true, now);
                state.trouble = Some(Trouble::of(error, state.breaker.is_open()));
            }
            Ok(()) | Err(_) => {
                state.breaker.report(false, now);
                state.trouble = None;
            }
        }
    }

    /// Whether calls are kept away.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().breaker.is_open()
    }

    /// What was wrong at the last call.
    pub(crate) fn trouble(&self) -> Option<Trouble> {
        self.lock().trouble.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use host_domain::breaker::{FAILURES_MAX, PAUSE};
    use host_runtime::Failure;

    use super::*;

    fn trap() -> CallError {
        CallError::Trap {
            reason: "unreachable".to_owned(),
        }
    }

    #[test]
    fn faults_in_a_row_keep_calls_away_until_one_after_the_pause_succeeds() {
        let guard = Guard::default();
        for _ in 0..FAILURES_MAX {
            assert_eq!(guard.allow(Millis(0)), Ok(()));
            guard.report(Err(&trap()), Millis(0));
        }
        let kept_away = guard.allow(Millis(1)).unwrap_err();
        let after = Millis(0).plus(PAUSE);
        assert_eq!(kept_away.until, after);
        assert_eq!(kept_away.trouble, Trouble::of(&trap(), true));
        assert_eq!(guard.allow(after), Ok(()));
        assert!(guard.allow(after).is_err(), "one only");
        guard.report(Ok(()), after);
        assert!(!guard.is_open());
        assert_eq!(guard.trouble(), None);
    }

    #[test]
    fn what_is_not_the_plugins_fault_does_not_count() {
        let guard = Guard::default();
        let upstream = CallError::Failure(Failure::Upstream("no answer".to_owned()));
        for _ in 0..3 * FAILURES_MAX {
            guard.report(Err(&upstream), Millis(0));
            guard.report(Err(&CallError::Busy), Millis(0));
        }
        assert!(!guard.is_open());
        guard.report(Err(&trap()), Millis(0));
        guard.report(Err(&CallError::Busy), Millis(0));
        assert!(
            guard.trouble().is_some(),
            "a call that was not made ends nothing"
        );
    }
}
