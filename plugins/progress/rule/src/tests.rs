//! The rule as a table: facts in, sync status and problems out.

use std::fmt::Write as _;

use super::{COLUMNS, Facts, Rule};

/// A healthy node: a fresh answer, a fresh block, a sibling at the same height.
const WELL: &str = "height=1000 unchanged=1 age=2 siblings=1000 block_age=1 syncing=0 peers=8";

/// The facts of a healthy node with `changes`; `peers=-` removes a fact.
fn facts(changes: &str) -> Facts {
    let mut facts = Facts::default();
    for word in WELL.split(' ').chain(changes.split_whitespace()) {
        let (name, text) = word.split_once('=').unwrap();
        let value = (text != "-").then(|| text.parse().unwrap());
        match name {
            "height" => facts.height = value,
            "unchanged" => facts.unchanged_s = value,
            "age" => facts.age_s = value,
            "siblings" => facts.siblings = value,
            "block_age" => facts.block_age_s = value,
            "syncing" => facts.syncing = value.map(|value| value > 0.0),
            "peers" => facts.peers = value,
            other => panic!("no fact is named {other}"),
        }
    }
    facts
}

/// `synced:`, or `syncing: height_behind!` where `!` marks what is critical.
fn judged(rule: &Rule, facts: &Facts) -> String {
    let opinion = rule.judge(facts);
    let mut text = format!("{:?}:", opinion.sync).to_lowercase();
    for complaint in opinion.complaints {
        assert!(!complaint.message.is_empty());
        write!(
            text,
            " {}{}",
            complaint.code,
            if complaint.critical { "!" } else { "" }
        )
        .unwrap();
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
    let stalled_alone = "syncing: height_stalled! height_behind";
    for (name, changes, expected) in [
        ("all is well", "", "synced:"),
        (
            "it answers, but no block comes",
            "unchanged=60 siblings=-",
            "synced: height_stalled!",
        ),
        ("just before that", "unchanged=59.9", "synced:"),
        (
            "it is frozen and answers nothing",
            "age=45",
            "unknown: height_stalled!",
        ),
        ("just before that", "age=44.9", "synced:"),
        (
            "silence hides what it said before",
            "age=900 peers=0",
            "unknown: height_stalled!",
        ),
        (
            "it has been silent for longer than the window",
            "age=900 unchanged=-",
            "unknown: height_stalled!",
        ),
        (
            "it stands still while others go on",
            "unchanged=61 siblings=1061",
            stalled_alone,
        ),
        (
            "the chain stands still",
            "unchanged=61 siblings=1001",
            "synced: height_stalled! chain_halted!",
        ),
        (
            "it stands still ahead of one that syncs",
            "unchanged=61 siblings=50",
            "synced: height_stalled!",
        ),
        ("a little behind", "siblings=1009", "synced:"),
        ("behind", "siblings=1010", "syncing: height_behind"),
        ("far behind", "siblings=1100", "syncing: height_behind!"),
        (
            "far behind, and says so",
            "siblings=9000 syncing=1",
            "syncing: height_behind",
        ),
        ("ahead of its siblings", "siblings=10", "synced:"),
        ("no siblings", "siblings=-", "synced:"),
        ("few peers", "peers=2", "synced: peers_low"),
        ("a source without peers", "peers=-", "synced:"),
        ("blocks come, but old ones", "block_age=3600", "syncing:"),
    ] {
        assert_eq!(judged(&rule, &facts(changes)), expected, "{name}");
    }
}

#[test]
fn a_node_that_never_spoke_is_not_judged_by_anything_else() {
    assert_eq!(
        judged(&Rule::default(), &Facts::default()),
        "unknown: no_observations"
    );
}

#[test]
fn rules_that_are_off_say_nothing() {
    assert_eq!(
        judged(&Rule::default(), &facts("peers=0 block_age=1e9")),
        "synced:"
    );
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
    assert_eq!(path, "/critical_lag_blocks");
    assert_eq!(reason, "must be at least degraded_lag_blocks (10)");
}

#[test]
fn columns_are_named_once() {
    let distinct: std::collections::BTreeSet<_> = COLUMNS.iter().collect();
    assert_eq!(distinct.len(), COLUMNS.len());
}

#[test]
fn siblings_count_only_where_they_follow_one_chain() {
    let alone = Rule {
        compare_siblings: false,
        ..Rule::default()
    };
    let ahead = facts("siblings=9000");
    assert_eq!(judged(&Rule::default(), &ahead), "syncing: height_behind!");
    assert_eq!(judged(&alone, &ahead), "synced:");
}
