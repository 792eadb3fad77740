//! Machines of which each has one node: who has one, and when one that a failed node left behind is cleaned.
//!
//! A machine can be away for days. Until it was reached, something of the failed node may run on it or be paid for, so it is
//! tried again and again, and never given up.

use std::time::Duration;

use crate::ids::{MachineId, NodeId};
use crate::time::Millis;

/// A node's claim to a machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineClaim {
    /// The machine.
    pub machine_id: MachineId,
    /// Whose it is.
    pub node_id: NodeId,
    /// Since when.
    pub claimed_at: Millis,
    /// Whether an earlier node may have left something on it.
    pub is_dirty: bool,
    /// How often it was tried to clean it after its node had failed.
    pub cleanings: i64,
    /// When that is tried next.
    pub clean_after: Millis,
    /// Until when somebody is at it.
    pub cleaning_until: Millis,
}

/// How long to wait before the next try after `cleanings` of them: a minute, doubled, at most an hour.
pub fn cleaning_pause(cleanings: i64) -> Duration {
    let doublings = cleanings.saturating_sub(1).clamp(0, 6);
    Duration::from_mins(1_u64 << doublings).min(Duration::from_hours(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_between_cleanings_grow_to_an_hour() {
        let minutes = |cleanings| cleaning_pause(cleanings).as_secs() / 60;
        let all: Vec<_> = (1..=8).map(minutes).collect();
        assert_eq!(all, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(
            (minutes(0), minutes(i64::MIN), minutes(i64::MAX)),
            (1, 1, 60)
        );
    }
}
