//! The agent's clock and its waits. Only this file of the crate reads the machine's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use host_domain::time::{Clock, Millis};

/// The machine's wall clock as a [`Clock`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Millis {
        now()
    }
}

/// The current time of the machine's wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the agent's clock")]
pub(crate) fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Waits for a duration.
pub(crate) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// `duration`, shortened at random by up to a half, so that agents do not retry at the same moment.
pub(crate) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.5..=1.0))
}

/// The wait before attempt `attempt` (from 0): it doubles up to `max` and is jittered.
pub(crate) fn backoff(base: Duration, max: Duration, attempt: u32) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt.min(20)));
    jittered(doubled.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_its_cap() {
        let (base, max) = (Duration::from_millis(100), Duration::from_secs(1));
        for (attempt, low, high) in [(0, 50, 100), (1, 100, 200), (2, 200, 400), (30, 500, 1000)] {
            let wait = backoff(base, max, attempt).as_millis();
            assert!(
                (low..=high).contains(&wait),
                "attempt {attempt} waits {wait} ms"
            );
        }
    }
}
