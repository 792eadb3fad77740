//! Waits for a condition: a message wakes the workflow up, and an activity checks the condition.
//!
//! A message may be lost when the host dies between commit and signal, may arrive before anybody waits, or may be
//! stale. So a message only triggers the next check, and the workflow also polls, at growing intervals. Short timers
//! also matter because engines keep timers that lose a race until they fire.

use std::future::Future;
use std::time::Duration;

use crate::error::FlowError;
use crate::flow::Flow;

/// The first pause between two polls.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The pause grows up to the limit divided by this, so that the number of polls stays bounded.
const CHECKS: u32 = 240;
/// The longest pause of a short wait: the maximum delay after a lost message.
const LONGEST_PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest pause of any wait.
const LONGEST_PAUSE_MAX: Duration = Duration::from_mins(1);
/// What each message deducts from the limit: a flood of messages ends the wait instead of filling the history.
const NUDGE_COST: Duration = Duration::from_millis(100);

/// Checks until there is a value, after each message in `mailbox` and after each pause.
pub async fn until<T, C, Fut>(
    flow: &Flow,
    what: &str,
    mailbox: &str,
    limit: Duration,
    mut check: C,
) -> Result<T, FlowError>
where
    C: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, FlowError>>,
{
    let mut waited = Duration::ZERO;
    let mut pause = FIRST_PAUSE;
    let longest = longest_pause(limit);
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        if waited >= limit {
            return Err(FlowError::TimedOut {
                what: what.to_owned(),
                limit,
            });
        }
        let slice = pause.min(limit.saturating_sub(waited));
        if flow.nudge(mailbox, slice).await? {
            waited += NUDGE_COST;
        } else {
            waited += slice;
            pause = pause.mul_f64(1.5).min(longest);
        }
    }
}

/// The maximum delay after a lost message: 10 s for limits up to 40 minutes, 15 s for one hour, never more than a
/// minute.
fn longest_pause(limit: Duration) -> Duration {
    (limit / CHECKS).clamp(LONGEST_PAUSE_MIN, LONGEST_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many polls a wait makes without any message.
    fn checks(limit: Duration) -> u32 {
        let (mut waited, mut pause, mut n) = (Duration::ZERO, FIRST_PAUSE, 1);
        while waited < limit {
            waited += pause.min(limit.saturating_sub(waited));
            pause = pause.mul_f64(1.5).min(longest_pause(limit));
            n += 1;
        }
        n
    }

    #[test]
    fn a_lost_message_costs_little_and_a_long_wait_stays_short_in_the_history() {
        let pause = |minutes| longest_pause(Duration::from_mins(minutes)).as_secs();
        assert_eq!(
            [1, 40, 60, 240, 1440, 14_400].map(pause),
            [10, 10, 15, 60, 60, 60]
        );
        for minutes in [1, 10, 60, 240] {
            let n = checks(Duration::from_mins(minutes));
            assert!(n <= CHECKS + 10, "{minutes} min: {n} checks");
        }
        assert!(checks(Duration::from_hours(24)) < 1_500);
    }
}
