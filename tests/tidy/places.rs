//! Paths that `ARCHITECTURE.md` and `CONTRIBUTING.md` name exist.

use regex::Regex;

use super::{File, check, root};

/// Sections whose backquoted words with a slash are paths from the root.
const SECTIONS: &[(&str, &str)] = &[
    ("CONTRIBUTING.md", "Where does it go?"),
    ("ARCHITECTURE.md", "Code map"),
    ("ARCHITECTURE.md", "Entry points"),
];

/// The text between a heading and the next one; empty when there is none.
fn section<'a>(page: &'a File, title: &str) -> &'a str {
    let begin = format!("\n## {title}\n");
    let Some((_, rest)) = page.text.split_once(&begin) else {
        return "";
    };
    rest.split_once("\n## ")
        .map_or(rest, |(section, _)| section)
}

/// The part of a path before the first placeholder, up to the folder that it is in: `host/cli/src/<noun>.rs` is `host/cli/src/`.
fn checked_part(path: &str) -> &str {
    let Some((known, _)) = path.split_once('<') else {
        return path;
    };
    &known[..known.rfind('/').map_or(0, |at| at + 1)]
}

fn missing_places(page: &File) -> Vec<String> {
    let path = Regex::new(r"`([A-Za-z0-9_.<>-]+/[A-Za-z0-9_./<>-]*)`").unwrap();
    let sections = SECTIONS.iter().filter(|(name, _)| *name == page.path);
    let mut missing = Vec::new();
    for (_, title) in sections {
        let places = path.captures_iter(section(page, title));
        let places: Vec<String> = places.map(|found| found[1].to_owned()).collect();
        if places.is_empty() {
            missing.push(format!("`{title}` names no path"));
        }
        let places = places.into_iter();
        missing.extend(
            places
                .filter(|place| !root().join(checked_part(place)).exists())
                .map(|place| format!("`{title}` names `{place}`, which does not exist")),
        );
    }
    missing
}

#[test]
fn every_place_that_a_newcomer_is_sent_to_exists() {
    let pages = ["ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        File::new(name, &text)
    });
    let [_, contributing] = &pages;
    let violation = contributing.text.replace(
        "`host/domain/src/<noun>.rs`",
        "`host/dominion/src/<noun>.rs`",
    );
    let violation = File::new("CONTRIBUTING.md", &violation);
    let found = missing_places(&violation);
    assert_eq!(
        found.len(),
        1,
        "the rule overlooks its violation: {found:?}"
    );
    check(missing_places, &pages, &violation);
}

#[test]
fn a_path_is_checked_up_to_its_placeholder() {
    for (path, part) in [
        ("host/cli/src/lib.rs", "host/cli/src/lib.rs"),
        ("host/cli/src/<noun>.rs", "host/cli/src/"),
        ("host/workflows/src/<verb>_<noun>.rs", "host/workflows/src/"),
        ("host/<crate>/src/metrics.rs", "host/"),
    ] {
        assert_eq!(checked_part(path), part);
    }
}
