//! Waiting for the world: a message wakes the workflow up, an activity tells the truth.
//!
//! A message may be lost when the host dies between its commit and its signal, may come before anybody waits, or may
//! be a leftover. So no message is believed: each only leads to the next check, and checks come by themselves too,
//! at growing distances. That also keeps every timer short, because engines keep losing timers until they fire.

use std::future::Future;
use std::time::Duration;

use crate::error::FlowError;
use crate::flow::Flow;

/// The first pause between two checks that no message asks for.
pub const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest such pause.
pub const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// What a message costs of the limit: a flood of them ends the wait instead of filling the history.
const NUDGE_COST: Duration = Duration::from_millis(100);

/// Checks until there is a value, each time a message comes into `mailbox` and now and then without one.
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
            pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
        }
    }
}
