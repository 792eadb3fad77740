//! `docs/proofs.md` says of every claim which test shows it; a test that does not exist shows nothing.

use std::collections::BTreeSet;

use regex::Regex;

use super::{File, check, files, root};

/// The functions of the sources that are tests.
fn tests(sources: &str) -> BTreeSet<String> {
    let test = r"(?m)^ *#\[(?:tokio::)?test[^\n]*\n(?: *(?:#\[|//)[^\n]*\n)* *(?:pub )?(?:async )?fn (\w+)";
    let test = Regex::new(test).unwrap();
    let found = test.captures_iter(sources);
    // Some become tests by a macro that runs each of them on several beds.
    let lists = Regex::new(r"(?s)\n(?:contracts|conformance|on_both_kinds)!\((.*?)\);").unwrap();
    let lists = lists.captures_iter(sources).map(|list| list[1].to_owned());
    let listed = lists.collect::<Vec<_>>().join(",");
    let listed = listed.split(',').map(|name| name.trim().to_owned());
    found
        .map(|found| found[1].to_owned())
        .chain(listed)
        .collect()
}

/// Names in backquotes in the last cell of a row must be tests of some source.
fn missing_tests(page: &File, tests: &BTreeSet<String>) -> Vec<String> {
    let proof = Regex::new(r"`([a-z0-9_]{8,})`").unwrap();
    let rows = page.text.lines().filter(|line| line.starts_with('|'));
    let rows = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
    let names = rows.flat_map(|row| {
        proof
            .captures_iter(row)
            .map(|found| found[1].to_owned())
            .collect::<Vec<_>>()
    });
    names
        .filter(|name| !tests.contains(name))
        .map(|name| format!("no test is named `{name}`"))
        .collect()
}

#[test]
fn every_named_proof_exists() {
    let page = std::fs::read_to_string(root().join("docs/proofs.md")).unwrap();
    let sources: String = files(".rs").into_iter().map(|file| file.text).collect();
    let page = File::new("docs/proofs.md", &page);
    assert!(
        page.text
            .lines()
            .filter(|line| line.starts_with('|'))
            .count()
            > 20,
        "the page has lost its rows"
    );
    let tests = tests(&sources);
    let rule = |page: &File| missing_tests(page, &tests);
    // Put together here, so that this file does not hold the name itself.
    let nowhere = format!("| a claim | `{}_{}` |", "a_test_that_was", "never_written");
    check(rule, &[page], &File::new("x.md", &nowhere));
}
