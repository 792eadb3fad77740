//! How often an activity is attempted, how long an attempt may take, and the durable retry loop.
//!
//! The loop runs in the workflow between durable timers, so the count of attempts survives a crash of the process. An
//! attempt that a crash interrupts runs again under the same number.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::combine::{Either, select};
use crate::error::ActivityError;
use crate::flow::{ActivityCall, Control, Watch};

/// Time limits and attempts of an activity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// How long one attempt may take.
    pub per_try: Duration,
    /// How long an attempt may go without a heartbeat; absent for short work.
    pub heartbeat: Option<Duration>,
    /// The number of attempts, including the first.
    pub tries: u32,
    /// The pause after the first failed attempt.
    pub first: Duration,
    /// The factor between two consecutive pauses.
    pub factor: f64,
    /// The longest pause.
    pub max: Duration,
}

impl Retry {
    /// For most activities.
    pub const DEFAULT: Self = Self {
        per_try: Duration::from_mins(10),
        heartbeat: Some(Duration::from_mins(1)),
        tries: 3,
        first: Duration::from_secs(1),
        factor: 2.0,
        max: Duration::from_mins(1),
    };
    /// For calls to a machine provider.
    pub const PROVIDER: Self = Self {
        per_try: Duration::from_mins(15),
        heartbeat: Some(Duration::from_mins(2)),
        tries: 3,
        first: Duration::from_secs(10),
        factor: 2.0,
        max: Duration::from_mins(2),
    };
    /// For work on the database: short, with many attempts.
    pub const STORE: Self = Self {
        per_try: Duration::from_secs(30),
        heartbeat: None,
        tries: 10,
        first: Duration::from_millis(200),
        factor: 2.0,
        max: Duration::from_secs(30),
    };
    /// For undos, which must give up last.
    pub const UNDO: Self = Self {
        per_try: Duration::from_mins(10),
        heartbeat: Some(Duration::from_mins(1)),
        tries: 10,
        first: Duration::from_secs(1),
        factor: 2.0,
        max: Duration::from_mins(1),
    };

    /// The pause after failed attempt number `attempt` (from 1) of the step `key`: half of it fixed, half of it
    /// jitter derived from the key, because a workflow can't draw random numbers and many workflows must not retry at
    /// once.
    pub fn pause(&self, key: &str, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1).min(64)).unwrap_or(64);
        let full = (self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent))
            .min(self.max.as_secs_f64());
        let spread = f64::from(spread(key, attempt)) / f64::from(u16::MAX);
        Duration::from_secs_f64(full * (0.5 + 0.5 * spread))
    }
}

/// Sixteen well-mixed bits of a step and an attempt (folded FNV-1a).
fn spread(key: &str, attempt: u32) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in key.bytes().chain(attempt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let bytes = (hash ^ (hash >> 32)).to_le_bytes();
    u16::from_le_bytes([bytes[0] ^ bytes[2], bytes[1] ^ bytes[3]])
}

/// Attempts an activity until it succeeds, fails for good, has no attempts left or is cancelled.
pub(crate) async fn retrying<C: Control + ?Sized>(
    control: Arc<C>,
    mut call: ActivityCall,
    watch: Watch,
) -> Result<String, ActivityError> {
    let retry = call.retry;
    loop {
        let running = control.try_activity(call.clone());
        let outcome = match select(running, watch.cancelled()).await {
            Either::First(outcome) => outcome,
            Either::Second((reason, running)) => {
                // The step may have partly succeeded, so it is cancelled and awaited; an undo never races it.
                control.stop_activities(&reason);
                running.await
            }
        };
        let failed = match outcome {
            Ok(output) => return Ok(output),
            Err(failed) => failed,
        };
        if !failed.error.retryable || call.attempt >= retry.tries || watch.is_cancelled() {
            return Err(failed.error);
        }
        let pause = retry.pause(&call.key, call.attempt);
        call.attempt += 1;
        call.last = failed.last.or(call.last);
        if let Either::Second(_) = select(control.timer(pause), watch.cancelled()).await {
            return Err(failed.error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_stay_within_bounds_and_differ_by_step() {
        let retry = Retry::DEFAULT;
        for attempt in 1..100 {
            let full = 2.0_f64.powi(i32::try_from(attempt).unwrap() - 1).min(60.0);
            let pause = retry
                .pause("provision-1/reserve_machine", attempt)
                .as_secs_f64();
            assert!((full * 0.5..=full).contains(&pause), "{attempt}: {pause}");
        }
        assert_ne!(
            retry.pause("provision-1/reserve_machine", 1),
            retry.pause("provision-2/reserve_machine", 1)
        );
        assert_eq!(retry.pause("a", 3), retry.pause("a", 3));
    }
}
