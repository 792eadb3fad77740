//! Rules about Rust sources: headers, who may name what, and what is written nowhere.

use regex::Regex;

use super::{File, check, files, root};

#[test]
fn every_source_says_what_it_is() {
    let rule = |file: &File| {
        if file.text.starts_with("//!") {
            Vec::new()
        } else {
            vec!["begins without a `//!` line that says what it is and why".to_owned()]
        }
    };
    check(
        rule,
        &files(".rs"),
        &File::new("host/domain/src/x.rs", "use a;\n"),
    );
}

/// Lines of a source, without its tests.
const LINES_MAX: usize = 400;

#[test]
fn no_source_is_too_long() {
    let rule = |file: &File| {
        let tests = Regex::new(r"(?m)^#\[cfg\(test\)\]\nmod \w+ \{").unwrap();
        let own = tests.split(&file.text).next().unwrap_or_default();
        let n_lines = own.lines().count();
        if n_lines <= LINES_MAX || file.path.starts_with("tests/") {
            Vec::new()
        } else {
            vec![format!(
                "has {n_lines} lines; more than {LINES_MAX} are usually two nouns"
            )]
        }
    };
    let long = "//! x\n".repeat(LINES_MAX + 1);
    check(
        rule,
        &files(".rs"),
        &File::new("host/domain/src/x.rs", &long),
    );
}

/// Who may not import whom inside the server.
const NEVER: &[(&str, &[&str])] = &[
    (
        "host/server/src/api/",
        &[
            "host_store",
            "host_engine",
            "crate::commands",
            "crate::reconcile",
        ],
    ),
    (
        "host/server/src/ops/",
        &["crate::api", "crate::reconcile", "crate::commands"],
    ),
    (
        "host/server/src/activities/",
        &["crate::api", "crate::commands"],
    ),
    (
        "host/server/src/reconcile/",
        &["crate::api", "crate::commands"],
    ),
];

#[test]
fn layers_point_one_way() {
    let rule = |file: &File| {
        let rules = NEVER
            .iter()
            .filter(|(layer, _)| file.path.starts_with(layer));
        let banned = rules.flat_map(|(_, banned)| banned.iter());
        banned
            .filter(|name| {
                file.text
                    .lines()
                    .any(|line| line.contains(**name) && !line.trim_start().starts_with("//"))
            })
            .map(|name| format!("imports `{name}`, which points back"))
            .collect()
    };
    let violation = File::new("host/server/src/ops/x.rs", "use crate::api::Page;\n");
    check(rule, &files(".rs"), &violation);
}

#[test]
fn no_chain_is_named_in_the_host() {
    let rule = |file: &File| {
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let names = ["anvil", "celestia", "cosmos", "bitcoin", "ethereum"];
        let found = code.filter(|line| names.iter().any(|name| line.to_lowercase().contains(name)));
        found
            .map(|line| format!("names a chain: {}", line.trim()))
            .collect()
    };
    let ours: Vec<File> = files(".rs")
        .into_iter()
        .filter(|file| file.path.starts_with("host/") && !file.path.contains("tests"))
        .collect();
    check(
        rule,
        &ours,
        &File::new("host/server/src/x.rs", "let chain = \"anvil-devnet\";\n"),
    );
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [
        "to".to_owned() + "do!(",
        "unimple".to_owned() + "mented!(",
        "FIX".to_owned() + "ME",
        "#[ig".to_owned() + "nore",
    ];
    let rule = |file: &File| {
        marks
            .iter()
            .filter(|mark| file.text.contains(*mark))
            .map(|mark| format!("has `{mark}`"))
            .collect()
    };
    check(rule, &files(".rs"), &File::new("x.rs", &marks[0]));
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(root().join("migrations").join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(!names("sqlite").is_empty());
    assert_eq!(names("sqlite"), names("postgres"));
}
