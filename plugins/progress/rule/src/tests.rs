//! The rule as a table: facts in, sync and complaints out.

use super::{COLUMNS, Facts, Rule};

/// A node that is well: a fresh answer, a fresh block, a sibling at the same height.
fn well() -> Facts {
    Facts {
        height: Some(1000.0),
        unchanged_s: Some(1.0),
        age_s: Some(2.0),
        siblings: Some(1000.0),
        block_age_s: Some(1.0),
        syncing: Some(false),
        peers: Some(8.0),
    }
}

/// `synced`, or `syncing: height_behind!` where `!` marks what is critical.
fn judged(rule: &Rule, facts: Facts) -> String {
    let opinion = rule.judge(&facts);
    let mut text = format!("{:?}:", opinion.sync).to_lowercase();
    for complaint in opinion.complaints {
        assert!(!complaint.message.is_empty());
        text += &format!(
            " {}{}",
            complaint.code,
            if complaint.critical { "!" } else { "" }
        );
    }
    text
}

#[test]
fn the_rule_as_a_table() {
    let rule = Rule {
        min_peers: 3,
        block_age_max_s: 90,
        ..Rule::default()
    };
    let table: [(&str, Facts, &str); 18] = [
        ("all is well", well(), "synced:"),
        (
            "nothing was ever seen",
            Facts::default(),
            "unknown: no_observations",
        ),
        (
            "it answers, but no block comes",
            Facts {
                unchanged_s: Some(60.0),
                siblings: None,
                ..well()
            },
            "synced: height_stalled!",
        ),
        (
            "just before that",
            Facts {
                unchanged_s: Some(59.9),
                ..well()
            },
            "synced:",
        ),
        (
            "it is frozen and answers nothing",
            Facts {
                age_s: Some(45.0),
                ..well()
            },
            "unknown: height_stalled!",
        ),
        (
            "just before that",
            Facts {
                age_s: Some(44.9),
                ..well()
            },
            "synced:",
        ),
        (
            "silence hides what it said before",
            Facts {
                age_s: Some(900.0),
                peers: Some(0.0),
                ..well()
            },
            "unknown: height_stalled!",
        ),
        (
            "it stands still while others go on",
            Facts {
                unchanged_s: Some(61.0),
                siblings: Some(1061.0),
                ..well()
            },
            "syncing: height_stalled! height_behind",
        ),
        (
            "the chain stands still",
            Facts {
                unchanged_s: Some(61.0),
                siblings: Some(1001.0),
                ..well()
            },
            "synced: height_stalled! chain_halted!",
        ),
        (
            "it stands still ahead of a sibling that syncs",
            Facts {
                unchanged_s: Some(61.0),
                siblings: Some(50.0),
                ..well()
            },
            "synced: height_stalled!",
        ),
        (
            "a little behind",
            Facts {
                siblings: Some(1009.0),
                ..well()
            },
            "synced:",
        ),
        (
            "behind",
            Facts {
                siblings: Some(1010.0),
                ..well()
            },
            "syncing: height_behind",
        ),
        (
            "far behind",
            Facts {
                siblings: Some(1100.0),
                ..well()
            },
            "syncing: height_behind!",
        ),
        (
            "far behind, and says so",
            Facts {
                siblings: Some(9000.0),
                syncing: Some(true),
                ..well()
            },
            "syncing: height_behind",
        ),
        (
            "no siblings",
            Facts {
                siblings: None,
                ..well()
            },
            "synced:",
        ),
        (
            "few peers",
            Facts {
                peers: Some(2.0),
                ..well()
            },
            "synced: peers_low",
        ),
        (
            "a source without peers",
            Facts {
                peers: None,
                ..well()
            },
            "synced:",
        ),
        (
            "blocks come, but old ones",
            Facts {
                block_age_s: Some(3600.0),
                ..well()
            },
            "syncing:",
        ),
    ];
    for (name, facts, expected) in table {
        assert_eq!(judged(&rule, facts), expected, "{name}");
    }
}

#[test]
fn rules_that_are_off_say_nothing() {
    let facts = Facts {
        peers: Some(0.0),
        block_age_s: Some(1e9),
        ..well()
    };
    assert_eq!(judged(&Rule::default(), facts), "synced:");
}

#[test]
fn the_defaults_fit_and_a_contradiction_names_its_field() {
    assert_eq!(Rule::default().check(), Ok(()));
    let rule = Rule {
        degraded_lag_blocks: 10,
        critical_lag_blocks: 9,
        ..Rule::default()
    };
    let (path, reason) = rule.check().unwrap_err();
    assert_eq!(
        (path, reason.as_str()),
        (
            "/critical_lag_blocks",
            "must be at least degraded_lag_blocks (10)"
        )
    );
}

#[test]
fn columns_are_named_once() {
    let distinct: std::collections::BTreeSet<_> = COLUMNS.iter().collect();
    assert_eq!(distinct.len(), COLUMNS.len());
}
