//! A circuit breaker: blocks calls after too many consecutive failures, and after a pause lets one call through as a
//! test.

use std::time::Duration;

use crate::time::Millis;

/// The default number of consecutive failures that opens a breaker.
pub const FAILURES_MAX: u32 = 5;
/// The default time until an open breaker lets one call through.
pub const PAUSE: Duration = Duration::from_secs(30);

/// The state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// Calls are blocked.
    Open {
        /// When it opened, or opened again.
        since: Millis,
    },
    /// One test call is running.
    HalfOpen {
        /// When it started.
        since: Millis,
    },
}

/// A breaker with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    failures_max: u32,
    pause: Duration,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self {
            state: BreakerState::Closed { failures: 0 },
            failures_max: failures_max.max(1),
            pause,
        }
    }

    /// Whether it blocks calls.
    pub fn is_open(&self) -> bool {
        match self.state {
            BreakerState::Closed { .. } => false,
            BreakerState::Open { .. } | BreakerState::HalfOpen { .. } => true,
        }
    }

    /// When a call may pass; `None` when it may pass now.
    pub fn rests_until(&self, now: Millis) -> Option<Millis> {
        match self.state {
            BreakerState::Closed { .. } => None,
            BreakerState::Open { since } | BreakerState::HalfOpen { since } => {
                let until = since.plus(self.pause);
                (until > now).then_some(until)
            }
        }
    }

    /// Requests a call. After the pause one call may pass; if its result never arrives, another may pass after one
    /// more pause.
    pub fn allow(&mut self, now: Millis) -> bool {
        match self.state {
            BreakerState::Closed { .. } => true,
            BreakerState::Open { since } | BreakerState::HalfOpen { since } => {
                let has_rested = now.since(since) >= self.pause;
                if has_rested {
                    self.state = BreakerState::HalfOpen { since: now };
                }
                has_rested
            }
        }
    }

    /// Reports the result of a call; `true` when this opened or closed the breaker.
    pub fn report(&mut self, is_fault: bool, now: Millis) -> bool {
        let was_open = self.is_open();
        self.state = match (self.state, is_fault) {
            (BreakerState::Closed { failures }, true) if failures + 1 < self.failures_max => {
                BreakerState::Closed {
                    failures: failures + 1,
                }
            }
            (BreakerState::Closed { .. } | BreakerState::HalfOpen { .. }, true) => {
                BreakerState::Open { since: now }
            }
            // The call started before the breaker opened, so its result is no news.
            (open @ BreakerState::Open { .. }, true) => open,
            (
                BreakerState::Closed { .. }
                | BreakerState::HalfOpen { .. }
                | BreakerState::Open { .. },
                false,
            ) => BreakerState::Closed { failures: 0 },
        };
        was_open != self.is_open()
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new(FAILURES_MAX, PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Breaker, BreakerState};
    use crate::time::Millis;

    fn at(seconds: i64) -> Millis {
        Millis(seconds * 1_000)
    }

    /// Fails until it opens at second 0.
    fn open() -> Breaker {
        let mut breaker = Breaker::new(3, Duration::from_secs(10));
        assert!(!breaker.report(true, at(0)));
        assert!(!breaker.report(true, at(0)));
        assert!(breaker.report(true, at(0)));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_starts_over() {
        let mut breaker = Breaker::new(3, Duration::from_secs(10));
        for is_fault in [true, true, false, true, true] {
            assert!(breaker.allow(at(0)));
            assert!(!breaker.report(is_fault, at(0)));
        }
        assert_eq!(breaker.state, BreakerState::Closed { failures: 2 });
        assert!(breaker.report(true, at(0)));
        assert!(breaker.is_open());
    }

    #[test]
    fn it_keeps_calls_away_for_the_pause_and_then_lets_one_through() {
        let mut breaker = open();
        assert!(!breaker.allow(at(9)));
        assert_eq!(breaker.rests_until(at(9)), Some(at(10)));
        assert_eq!(breaker.rests_until(at(10)), None);
        assert!(breaker.allow(at(10)));
        assert!(!breaker.allow(at(11)), "one is out already");
        assert!(breaker.allow(at(20)), "and never came back");
    }

    #[test]
    fn the_one_call_decides() {
        let mut breaker = open();
        assert!(breaker.allow(at(10)));
        assert!(!breaker.report(true, at(12)), "it stays open");
        assert!(!breaker.allow(at(21)));
        assert!(breaker.allow(at(22)));
        assert!(breaker.report(false, at(23)), "it closes");
        assert_eq!(breaker.state, BreakerState::Closed { failures: 0 });
    }

    #[test]
    fn a_late_failure_does_not_lengthen_the_pause() {
        let mut breaker = open();
        breaker.report(true, at(9));
        assert!(breaker.allow(at(10)));
    }
}
