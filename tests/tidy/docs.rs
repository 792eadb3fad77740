//! Pages link to files that exist, and show the vault policy that the tests use.

use std::path::{Component, Path, PathBuf};

use regex::Regex;

use super::{File, check, files, root};
use crate::secrets::vault::POLICY as SECRETS_POLICY;
use crate::support::bao::POLICY;

/// The path that a relative link leads to, from the root.
fn target(page: &str, link: &str) -> PathBuf {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let mut path = PathBuf::new();
    for part in folder.join(link).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

fn broken_links(page: &File) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").unwrap();
    let links = link
        .captures_iter(&page.text)
        .map(|found| found[1].to_owned());
    links
        .filter(|link| {
            let path = target(&page.path, link);
            !root().join(path).exists()
        })
        .map(|link| format!("links to `{link}`, which does not exist"))
        .collect()
}

#[test]
fn every_link_in_a_page_leads_to_a_file() {
    check(
        broken_links,
        &files(".md"),
        &File::new("docs/operator/x.md", "see [y](../y.md#z)"),
    );
}

#[test]
fn operators_are_shown_the_vault_policy_that_the_tests_use() {
    let pages = [
        ("docs/operator/keys.md", POLICY),
        ("docs/operator/secrets.md", SECRETS_POLICY),
    ];
    for (page, policy) in pages {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let mut rules = policy.lines().filter(|rule| !rule.is_empty()).peekable();
        assert!(rules.peek().is_some(), "the policy has no rules");
        for rule in rules {
            assert!(lines.contains(&rule), "{page} lacks `{rule}`");
        }
    }
}
