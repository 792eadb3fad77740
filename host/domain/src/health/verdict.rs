//! Applies a policy's verdicts: a change must hold for a while, and a flapping node keeps its worst health.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OwnIncidents;
use crate::node::{ApplicationHealth, Reason, SyncStatus};
use crate::time::Millis;

/// More changes than this within [`FLAP_WINDOW`] count as flapping.
pub const FLAP_CHANGES_MAX: usize = 6;
/// The window in which changes count as flapping.
pub const FLAP_WINDOW: Duration = Duration::from_mins(10);

/// The verdict of policies about a node at one tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The application's health.
    pub health: ApplicationHealth,
    /// Whether it follows its chain.
    pub sync: SyncStatus,
    /// Why.
    pub reasons: Vec<Reason>,
}

impl Verdict {
    /// The verdict when no policy can judge, with the reason.
    pub fn unknown(reason: Reason) -> Self {
        Self {
            health: ApplicationHealth::Unknown,
            sync: SyncStatus::Unknown,
            reasons: vec![reason],
        }
    }

    /// Combines the verdicts of several policies: the worst health, the least sync, all reasons. A policy that can't
    /// judge counts only when none can.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let sync = match (self.sync, other.sync) {
            (SyncStatus::Unknown, sync) | (sync, SyncStatus::Unknown) => sync,
            (one, two) => one.min(two),
        };
        let mut reasons = self.reasons;
        reasons.extend(other.reasons);
        reasons.dedup();
        Self {
            health: self.health.max(other.health),
            sync,
            reasons,
        }
    }
}

/// A node's application health over time: the effective health and the pending one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthTrack {
    /// The effective health.
    pub health: ApplicationHealth,
    /// The effective sync status.
    pub sync: SyncStatus,
    /// A different health and since when policies have reported it without interruption.
    pub pending: Option<(ApplicationHealth, Millis)>,
    /// The times of the last health changes, newest last; at most [`FLAP_CHANGES_MAX`] + 1.
    pub changes: Vec<Millis>,
    /// Whether the node is flapping and keeps its worst health.
    pub flapping: bool,
    /// Incidents that policies raise themselves.
    pub own: OwnIncidents,
}

impl Default for HealthTrack {
    fn default() -> Self {
        Self {
            health: ApplicationHealth::Unknown,
            sync: SyncStatus::Unknown,
            pending: None,
            changes: Vec::new(),
            flapping: false,
            own: OwnIncidents::default(),
        }
    }
}

/// The changes that a verdict caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthChange {
    /// The new health, when it changed.
    pub health: Option<ApplicationHealth>,
    /// The new sync status, when it changed.
    pub sync: Option<SyncStatus>,
    /// Whether the node started (`Some(true)`) or stopped (`Some(false)`) flapping.
    pub flapping: Option<bool>,
}

impl HealthTrack {
    /// Applies a verdict; a different health takes effect after `hold`.
    pub fn take(&mut self, verdict: &Verdict, now: Millis, hold: Duration) -> HealthChange {
        let mut change = HealthChange::default();
        self.changes.retain(|at| now.since(*at) < FLAP_WINDOW);
        if self.flapping && self.changes.is_empty() {
            self.flapping = false;
            change.flapping = Some(false);
        }
        if verdict.sync != self.sync {
            self.sync = verdict.sync;
            change.sync = Some(verdict.sync);
        }
        if verdict.health == self.health {
            self.pending = None;
            return change;
        }
        let since = match self.pending {
            Some((health, since)) if health == verdict.health => since,
            _ => now,
        };
        self.pending = Some((verdict.health, since));
        let better = verdict.health < self.health;
        if now.since(since) < hold || (self.flapping && better) {
            return change;
        }
        self.pending = None;
        self.health = verdict.health;
        change.health = Some(verdict.health);
        self.count_change(now, &mut change);
        change
    }

    fn count_change(&mut self, now: Millis, change: &mut HealthChange) {
        self.changes.push(now);
        if self.changes.len() > FLAP_CHANGES_MAX {
            self.changes.remove(0);
            if !self.flapping {
                self.flapping = true;
                change.flapping = Some(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ApplicationHealth as H;

    use super::*;

    fn says(health: H) -> Verdict {
        Verdict {
            health,
            sync: SyncStatus::Synced,
            reasons: Vec::new(),
        }
    }

    fn at(seconds: i64) -> Millis {
        Millis(seconds * 1_000)
    }

    #[test]
    fn a_change_counts_once_it_has_held() {
        let mut track = HealthTrack {
            health: H::Ok,
            sync: SyncStatus::Synced,
            ..HealthTrack::default()
        };
        let hold = Duration::from_secs(30);
        assert_eq!(track.take(&says(H::Critical), at(0), hold).health, None);
        assert_eq!(track.take(&says(H::Critical), at(29), hold).health, None);
        assert_eq!(
            track.take(&says(H::Critical), at(30), hold).health,
            Some(H::Critical)
        );
    }

    #[test]
    fn a_break_starts_the_wait_over() {
        let mut track = HealthTrack {
            health: H::Ok,
            sync: SyncStatus::Synced,
            ..HealthTrack::default()
        };
        let hold = Duration::from_secs(30);
        track.take(&says(H::Critical), at(0), hold);
        track.take(&says(H::Ok), at(20), hold);
        assert_eq!(track.take(&says(H::Critical), at(40), hold).health, None);
    }

    #[test]
    fn flapping_is_held_at_the_worst_value_and_ends() {
        let mut track = HealthTrack {
            health: H::Ok,
            sync: SyncStatus::Synced,
            ..HealthTrack::default()
        };
        let mut began = 0;
        for tick in 0..20 {
            let health = if tick % 2 == 0 { H::Critical } else { H::Ok };
            began += i32::from(
                track.take(&says(health), at(tick), Duration::ZERO).flapping == Some(true),
            );
        }
        assert_eq!(
            (began, track.flapping, track.health),
            (1, true, H::Critical)
        );
        let ended = track.take(&says(H::Ok), at(1_000), Duration::ZERO);
        assert_eq!((ended.flapping, ended.health), (Some(false), Some(H::Ok)));
    }

    #[test]
    fn the_worst_of_several_policies_counts() {
        let unknown = Verdict::unknown(Reason::new("policy_error", "trapped"));
        let joined = says(H::Ok).worst(says(H::Degraded)).worst(unknown);
        assert_eq!(
            (joined.health, joined.sync, joined.reasons.len()),
            (H::Degraded, SyncStatus::Synced, 1)
        );
    }
}
