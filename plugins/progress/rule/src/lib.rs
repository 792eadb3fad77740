//! The rule of the policy `progress`: from the facts about a node to its problems.
//!
//! The crate is pure and independent of the SDK, so that native code can run the same rule.

#![forbid(unsafe_code)]

use schemars::JsonSchema;
use serde::Deserialize;

/// The columns that the rule reads, in the order of [`Facts`].
pub const COLUMNS: [&str; 7] = [
    "node.height@last",
    "node.height@unchanged_s",
    "node.height@age_s",
    "node.height@max_siblings",
    "node.block_age_s@last",
    "node.syncing@last",
    "node.peers@last",
];

/// The facts about a node; `None` means that a value was never observed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// The newest height.
    pub height: Option<f64>,
    /// How long the height has been unchanged.
    pub unchanged_s: Option<f64>,
    /// The age of the newest height observation.
    pub age_s: Option<f64>,
    /// The greatest height among the other nodes of the chain.
    pub siblings: Option<f64>,
    /// The age of the newest block, by its timestamp.
    pub block_age_s: Option<f64>,
    /// Whether the node reports that it is syncing.
    pub syncing: Option<bool>,
    /// The number of peers.
    pub peers: Option<f64>,
}

/// When a node counts as stalled, silent, behind or short of peers.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Seconds without a new block after which the node is stalled.
    #[schemars(range(min = 1))]
    pub stalled_after_s: u32,
    /// Seconds without an answer after which the node also counts as stalled.
    #[schemars(range(min = 1))]
    pub silent_after_s: u32,
    /// Blocks behind the best sibling from which on the node is degraded.
    #[schemars(range(min = 1))]
    pub degraded_lag_blocks: u32,
    /// Blocks behind the best sibling from which on the node is critical, unless it reports that it is syncing.
    #[schemars(range(min = 1))]
    pub critical_lag_blocks: u32,
    /// Age of the newest block, by its timestamp, from which on the node is not synced; 0 disables the rule.
    pub block_age_max_s: u32,
    /// The minimum of peers; 0 disables the rule.
    pub min_peers: u32,
    /// Whether the nodes of the chain follow one chain. Each node of a development chain creates its own, so heights
    /// of other nodes mean nothing there.
    pub compare_siblings: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            stalled_after_s: 60,
            silent_after_s: 45,
            degraded_lag_blocks: 10,
            critical_lag_blocks: 100,
            block_age_max_s: 0,
            min_peers: 0,
            compare_siblings: true,
        }
    }
}

/// Whether the node is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Unknown.
    Unknown,
    /// The node is behind.
    Syncing,
    /// The node is synced.
    Synced,
}

/// A problem of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Stable code for programs.
    pub code: &'static str,
    /// Whether it is critical or only degraded.
    pub critical: bool,
    /// Text for people.
    pub message: String,
}

/// The rule's result for a node; healthy without problems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Whether the node is synced.
    pub sync: Sync,
    /// The problems.
    pub complaints: Vec<Complaint>,
}

impl Rule {
    /// Checks that the settings are consistent; the error has the field's JSON pointer and the fix.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.critical_lag_blocks < self.degraded_lag_blocks {
            let least = self.degraded_lag_blocks;
            return Err((
                "/critical_lag_blocks",
                format!("must be at least degraded_lag_blocks ({least})"),
            ));
        }
        Ok(())
    }

    /// Judges one node.
    pub fn judge(&self, facts: &Facts) -> Opinion {
        let facts = &Facts {
            siblings: facts.siblings.filter(|_| self.compare_siblings),
            ..*facts
        };
        let Some(age_s) = facts.age_s else {
            let message = "no height was observed yet".into();
            let complaints = vec![Complaint {
                code: "no_observations",
                critical: false,
                message,
            }];
            return Opinion {
                sync: Sync::Unknown,
                complaints,
            };
        };
        let mut complaints = Vec::new();
        if age_s >= f64::from(self.silent_after_s) {
            // The last observations are too old to judge anything else.
            let message = format!(
                "no answer for {age_s:.0} s; the last height was {}",
                shown(facts.height)
            );
            complaints.push(Complaint {
                code: "height_stalled",
                critical: true,
                message,
            });
            return Opinion {
                sync: Sync::Unknown,
                complaints,
            };
        }
        complaints.extend(self.stalled(facts));
        complaints.extend(self.behind(facts));
        complaints.extend(self.lonely(facts));
        Opinion {
            sync: self.sync(facts),
            complaints,
        }
    }

    fn stalled(&self, facts: &Facts) -> Vec<Complaint> {
        let Some(still_s) = facts
            .unchanged_s
            .filter(|still_s| *still_s >= f64::from(self.stalled_after_s))
        else {
            return Vec::new();
        };
        let height = shown(facts.height);
        let message = format!("the height has been {height} for {still_s:.0} s");
        let mut complaints = vec![Complaint {
            code: "height_stalled",
            critical: true,
            message,
        }];
        // If the best sibling is at the same height, the whole chain is stalled.
        let distance = facts
            .height
            .zip(facts.siblings)
            .map(|(own, best)| (best - own).abs());
        if distance.is_some_and(|blocks| blocks < f64::from(self.degraded_lag_blocks)) {
            let message =
                format!("no sibling is ahead of {height}, so the whole chain seems to be stalled");
            complaints.push(Complaint {
                code: "chain_halted",
                critical: true,
                message,
            });
        }
        complaints
    }

    fn behind(&self, facts: &Facts) -> Option<Complaint> {
        let lag = lag(facts).filter(|lag| *lag >= f64::from(self.degraded_lag_blocks))?;
        // A node that reports that it is syncing is expected to be far behind.
        let critical = lag >= f64::from(self.critical_lag_blocks) && facts.syncing != Some(true);
        let message = format!(
            "{lag:.0} blocks behind the best sibling, which is at {}",
            shown(facts.siblings)
        );
        Some(Complaint {
            code: "height_behind",
            critical,
            message,
        })
    }

    fn lonely(&self, facts: &Facts) -> Option<Complaint> {
        let peers = facts
            .peers
            .filter(|peers| *peers < f64::from(self.min_peers))?;
        let message = format!("{peers:.0} peers, expected at least {}", self.min_peers);
        Some(Complaint {
            code: "peers_low",
            critical: false,
            message,
        })
    }

    fn sync(&self, facts: &Facts) -> Sync {
        let far = lag(facts).is_some_and(|lag| lag >= f64::from(self.degraded_lag_blocks));
        let limit_s = f64::from(self.block_age_max_s);
        let old = limit_s > 0.0 && facts.block_age_s.is_some_and(|age_s| age_s >= limit_s);
        if facts.syncing == Some(true) || far || old {
            Sync::Syncing
        } else {
            Sync::Synced
        }
    }
}

/// Blocks behind the best sibling.
fn lag(facts: &Facts) -> Option<f64> {
    facts
        .height
        .zip(facts.siblings)
        .map(|(own, best)| best - own)
}

fn shown(height: Option<f64>) -> String {
    height.map_or_else(|| "unknown".into(), |height| format!("{height:.0}"))
}

#[cfg(test)]
mod tests;
