//! Runs the tests of one noun, and builds only what these need.
//!
//! A noun has a file or folder of its name, in the singular or the plural, in each crate that it touches. Its tests are those
//! of these modules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};

use crate::build::{self, with};
use crate::run::{cargo, run};
use crate::selection::{self, TESTS};
use crate::test;

/// Crates in which a noun has files: the folder, and the package.
type Crates = BTreeMap<PathBuf, String>;

/// Runs the tests of `NOUN [CRATE]`.
pub(crate) fn check(args: &[String]) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let (noun, only) = match args {
        [noun] => (noun, None),
        [noun, only] => (noun, Some(only)),
        _ => bail!("usage: cargo xtask check NOUN [CRATE], such as `cargo xtask check incident`"),
    };
    let names = names(noun);
    let mut packages = packages_with(&names)?;
    let integration = files_of(Path::new("tests"), &names);
    let mut has_integration = !integration.is_empty();
    if let Some(only) = only {
        let full = format!("host-{only}");
        packages.retain(|package| package == only || *package == full);
        has_integration &= only == TESTS;
    }
    if packages.is_empty() && !has_integration {
        bail!("no crate has a file named {}", names.join(".rs or "));
    }
    let mut tests = test::nextest("default");
    tests.args(selection::some_tested(&packages));
    if !packages.is_empty() {
        tests.arg("--lib");
    }
    if has_integration {
        if integration.iter().any(|file| starts_programs(file)) {
            build::what_tests_start()?;
        }
        tests.args(["--test", "it"]);
    }
    let modules = names.join("|");
    tests.args(["--filterset", &format!("test(/(^|::)({modules})::/)")]);
    if !test::has_nextest() {
        return without_nextest(noun, &packages, has_integration);
    }
    test::observed(tests, "default", begun, None)
}

/// Without nextest the filter is only a part of the name.
fn without_nextest(noun: &str, packages: &[String], integration: bool) -> anyhow::Result<ExitCode> {
    let mut tests = cargo(with(
        &["test", "--locked"],
        selection::some_tested(packages),
    ));
    if !packages.is_empty() {
        tests.arg("--lib");
    }
    if integration {
        tests.args(["--test", "it"]);
    }
    tests.arg(noun);
    run(tests)?;
    Ok(ExitCode::SUCCESS)
}

/// The noun in the singular and in the plural.
fn names(noun: &str) -> [String; 2] {
    let singular = noun.strip_suffix("ies").map(|stem| format!("{stem}y"));
    let singular = singular.unwrap_or_else(|| noun.strip_suffix('s').unwrap_or(noun).to_owned());
    let plural = match singular.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{singular}s"),
    };
    [singular, plural]
}

/// Packages that have a file of the noun.
fn packages_with(names: &[String]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for (folder, package) in crates()? {
        if !files_of(&folder.join("src"), names).is_empty() {
            found.push(package);
        }
    }
    Ok(found)
}

/// The crates of `host/`.
fn crates() -> anyhow::Result<Crates> {
    let mut crates = Crates::new();
    for entry in fs::read_dir("host").context("cannot list the crates")? {
        let folder = entry.context("cannot list the crates")?.path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else {
            continue;
        };
        let name = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = "));
        let name = name.with_context(|| format!("{} names no package", folder.display()))?;
        crates.insert(folder, name.trim_matches('"').to_owned());
    }
    Ok(crates)
}

/// Sources below a folder that are named as the noun, or lie in a folder that is.
fn files_of(folder: &Path, names: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let is_named = stem.is_some_and(|stem| names.iter().any(|name| name == stem));
        if path.is_dir() {
            found.extend(if is_named {
                sources(&path)
            } else {
                files_of(&path, names)
            });
        } else if is_named && path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.is_file()).collect()
}

/// Whether a test starts a program of the project, so that this must be built as well.
fn starts_programs(file: &Path) -> bool {
    let bed = file.with_file_name("bed.rs");
    let texts = [file, &bed].map(|file| fs::read_to_string(file).unwrap_or_default());
    let marks = ["support::dev", "Scene", "Fleet"];
    texts
        .iter()
        .any(|text| marks.iter().any(|mark| text.contains(mark)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_noun_is_found_in_the_singular_and_in_the_plural() {
        for (given, expected) in [
            ("node", ["node", "nodes"]),
            ("nodes", ["node", "nodes"]),
            ("policies", ["policy", "policies"]),
            ("key", ["key", "keys"]),
        ] {
            assert_eq!(names(given), expected);
        }
    }
}
