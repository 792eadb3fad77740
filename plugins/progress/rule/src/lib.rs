//! The rule of the policy `progress`: what is known of a node, and what is wrong with it.
//!
//! Pure and without the SDK, so that native code runs the very same rule beside the component.

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

/// What is known of a node; what is `None` was never observed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// The newest height.
    pub height: Option<f64>,
    /// For how long the height has been the same, up to now.
    pub unchanged_s: Option<f64>,
    /// How old the newest observation of the height is.
    pub age_s: Option<f64>,
    /// The greatest height among the other nodes of the chain.
    pub siblings: Option<f64>,
    /// How old the newest block is, by its own time.
    pub block_age_s: Option<f64>,
    /// Whether the node says that it is catching up.
    pub syncing: Option<bool>,
    /// How many peers it has.
    pub peers: Option<f64>,
}

/// When a node counts as stuck, silent, behind or lonely.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Seconds without a new block after which the node is stalled.
    #[schemars(range(min = 1))]
    pub stalled_after_s: u32,
    /// Seconds without an answer after which the node counts as stalled too.
    #[schemars(range(min = 1))]
    pub silent_after_s: u32,
    /// Blocks behind the best sibling from which on it is degraded.
    #[schemars(range(min = 1))]
    pub degraded_lag_blocks: u32,
    /// Blocks behind the best sibling from which on it is critical, unless it says that it is syncing.
    #[schemars(range(min = 1))]
    pub critical_lag_blocks: u32,
    /// Age of the newest block, by its own time, from which on the node is not synced; 0 turns the rule off.
    pub block_age_max_s: u32,
    /// Fewest peers that a node must have; 0 turns the rule off.
    pub min_peers: u32,
    /// Whether the nodes of the chain follow one chain. Each node of a development chain makes one of its own: there the
    /// height of another says nothing.
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

/// Whether the node has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Nothing is known.
    Unknown,
    /// It is behind.
    Syncing,
    /// It has caught up.
    Synced,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// Stable and machine readable.
    pub code: &'static str,
    /// Critical, or else degraded.
    pub critical: bool,
    /// For people.
    pub message: String,
}

/// What the rule thinks of a node; healthy when there is no complaint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Whether it has caught up.
    pub sync: Sync,
    /// What is wrong.
    pub complaints: Vec<Complaint>,
}

impl Rule {
    /// Whether the numbers make sense together; else the field's JSON pointer and what would be right.
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
            let message = "no height has been observed yet".into();
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
            // What it last said is too old to judge anything else by.
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
        // The best sibling stands where this node stands: it is the chain that does not move.
        let distance = facts
            .height
            .zip(facts.siblings)
            .map(|(own, best)| (best - own).abs());
        if distance.is_some_and(|blocks| blocks < f64::from(self.degraded_lag_blocks)) {
            let message = format!(
                "no sibling is ahead of {height} either: the whole chain seems to stand still"
            );
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
        // A node that says that it is catching up is expected to be far behind.
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
