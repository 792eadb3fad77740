//! Claims to machines that have one node each, and when a machine that a failed node left behind is cleaned.
//!
//! A machine can be unreachable for days. Until then something of the failed node may run on it or cost money, so the
//! host retries and never gives up.

use std::time::Duration;

use crate::ids::{MachineId, NodeId};
use crate::time::Millis;

/// A node's claim to a machine of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineClaim {
    /// The machine.
    pub machine_id: MachineId,
    /// The node that holds the claim.
    pub node_id: NodeId,
    /// When it was claimed.
    pub claimed_at: Millis,
    /// Whether an earlier node may have left something on it.
    pub is_dirty: bool,
    /// How many times the host tried to clean it after its node failed.
    pub cleanings: i64,
    /// When the next attempt is due.
    pub clean_after: Millis,
    /// Until when a running attempt holds it.
    pub cleaning_until: Millis,
}

/// The pause after `cleanings` attempts: a minute, doubled, at most an hour.
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
