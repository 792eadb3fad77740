//! The house rules that no compiler checks. Each rule is a function over files, and each is shown a violation that it must find.

mod crates;
mod docs;
mod places;
mod proofs;
mod reference;
mod sources;
mod words;

use std::path::{Path, PathBuf};

/// A file of the project: its path from the root, and its text.
#[derive(Clone, Debug)]
struct File {
    path: String,
    text: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every file that git knows, or would take up, whose name ends so.
fn files(ending: &str) -> Vec<File> {
    let listed = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        listed.status.success(),
        "git can't list the files of this checkout"
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    let paths = listed.lines().filter(|path| path.ends_with(ending));
    let mut found = Vec::new();
    for path in paths {
        // A file that was removed and not yet committed is still listed.
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            found.push(File::new(path, &text));
        }
    }
    assert!(!found.is_empty(), "no file ends with {ending}");
    found
}

/// Fails with every violation, and fails when the rule does not find the one it is shown.
fn check(rule: impl Fn(&File) -> Vec<String>, files: &[File], violation: &File) {
    assert!(
        !rule(violation).is_empty(),
        "the rule overlooks its violation: {violation:?}"
    );
    let found: Vec<String> = files
        .iter()
        .flat_map(|file| {
            rule(file)
                .into_iter()
                .map(|what| format!("{}: {what}", file.path))
        })
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
