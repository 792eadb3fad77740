//! Judges whether a node makes progress over a window of time.
//!
//! A frozen process does not answer, and a stalled one answers with the same height. Both are the same problem here,
//! because users can use neither node. The rule itself is the native crate `progress-rule`.

#![forbid(unsafe_code)]

use bellwether_plugin_sdk::policy::{Health, Row, Sync, Verdict};
use bellwether_plugin_sdk::{BadField, HealthPolicy, register};

use progress_rule::{COLUMNS, Facts, Rule, Sync as RuleSync};

struct Progress;

impl HealthPolicy for Progress {
    type Config = Rule;
    const READS: &[&str] = &COLUMNS;

    fn check(rule: &Rule) -> Result<(), BadField> {
        rule.check().map_err(|(path, reason)| BadField {
            path: path.into(),
            reason,
        })
    }

    fn judge(rule: &Rule, row: Row<'_>) -> Verdict {
        let [
            height,
            unchanged_s,
            age_s,
            siblings,
            block_age_s,
            syncing,
            peers,
        ] = row.values();
        let opinion = rule.judge(&Facts {
            height: height.number(),
            unchanged_s: unchanged_s.number(),
            age_s: age_s.number(),
            siblings: siblings.number(),
            block_age_s: block_age_s.number(),
            syncing: syncing.flag(),
            peers: peers.number(),
        });
        let mut verdict = Verdict::ok(match opinion.sync {
            RuleSync::Unknown => Sync::Unknown,
            RuleSync::Syncing => Sync::Syncing,
            RuleSync::Synced => Sync::Synced,
        });
        for complaint in opinion.complaints {
            let health = if complaint.critical {
                Health::Critical
            } else {
                Health::Degraded
            };
            verdict.worsen(health, complaint.code, complaint.message);
        }
        verdict
    }
}

register!(health_policy: Progress);
