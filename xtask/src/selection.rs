//! The packages and features that each command builds. Nothing else in this project lists them.
//!
//! Cargo resolves the features of shared dependencies over the selected packages. A tidy test compares what
//! these selections resolve to, so that no command recompiles what another one has built.

/// The programs that people run: package and binary.
const PROGRAMS: [(&str, &str); 2] = [
    ("bellwether", "bellwether"),
    ("host-agent", "bellwether-agent"),
];

/// The package of the integration tests. It and the programs together depend on every crate of the project, so a selection
/// that contains them resolves the features of the whole test build, however few targets it compiles.
pub(crate) const TESTS: &str = "tests";

/// Packages that no test needs; their dependencies enable features that nothing else enables. `lint` compiles them.
const WITHOUT_TESTS: [&str; 1] = ["benches"];

/// Features that `dev` enables beyond the defaults, as `PACKAGE/FEATURE`.
const DEV_FEATURES: [&str; 0] = [];

/// Features that tests enable beyond the defaults, as `PACKAGE/FEATURE`. The package of the tests enables Temporal.
const TEST_FEATURES: [&str; 0] = [];

/// Selects the programs for `dev`.
pub(crate) fn programs() -> Vec<String> {
    let mut args = Vec::new();
    for (package, binary) in PROGRAMS {
        args.extend(["--package", package, "--bin", binary].map(str::to_owned));
    }
    features(&mut args, &DEV_FEATURES);
    args
}

/// Selects the programs as the tests start them.
pub(crate) fn programs_under_test() -> Vec<String> {
    let mut args = vec!["--package".to_owned(), TESTS.to_owned()];
    for (package, binary) in PROGRAMS {
        args.extend(["--package", package, "--bin", binary].map(str::to_owned));
    }
    args.extend(["--bin", "compile-component"].map(str::to_owned));
    features(&mut args, &TEST_FEATURES);
    args
}

/// Selects every package with tests.
pub(crate) fn tested() -> Vec<String> {
    let mut args = vec!["--workspace".to_owned()];
    for package in WITHOUT_TESTS {
        args.extend(["--exclude", package].map(str::to_owned));
    }
    features(&mut args, &TEST_FEATURES);
    args
}

/// Selects the packages that `tested` leaves out.
pub(crate) fn benchmarks() -> Vec<String> {
    let packages = WITHOUT_TESTS.iter();
    let args = packages.flat_map(|package| ["--package", *package]);
    args.map(str::to_owned).collect()
}

/// Selects a few packages with the features of the test build.
pub(crate) fn some_tested(packages: &[String]) -> Vec<String> {
    let mut args = vec!["--package".to_owned(), TESTS.to_owned()];
    for (package, _) in PROGRAMS {
        args.extend(["--package", package].map(str::to_owned));
    }
    for package in packages {
        args.extend(["--package".to_owned(), package.clone()]);
    }
    features(&mut args, &TEST_FEATURES);
    args
}

fn features(args: &mut Vec<String>, features: &[&str]) {
    if !features.is_empty() {
        args.extend(["--features".to_owned(), features.join(",")]);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::run::cargo;

    /// Packages of other projects with their features, as cargo resolves them for a selection.
    fn resolved(selection: &[String], edges: &str) -> BTreeSet<String> {
        let tree = ["tree", "--locked", "--offline", "--prefix", "none"];
        let format = ["--format", "{p} [{f}]", "--edges", edges];
        let mut tree = cargo(tree.into_iter().chain(format));
        // `tree` takes packages, and none of their targets.
        let mut args = selection.iter();
        while let Some(arg) = args.next() {
            if arg == "--bin" {
                args.next();
            } else {
                tree.arg(arg);
            }
        }
        let output = tree.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        let listed = String::from_utf8(output.stdout).unwrap();
        let lines = listed.lines().map(|line| line.trim_end_matches(" (*)"));
        // A path stands only behind packages of this project.
        let foreign = lines.filter(|line| !line.is_empty() && !line.contains('/'));
        foreign.map(str::to_owned).collect()
    }

    /// What a selection compiles although the test build has compiled it with other features.
    fn compiled_again(test_build: &[String], selection: &[String], edges: &str) -> Vec<String> {
        let built = resolved(test_build, "normal,build,dev");
        let wanted = resolved(selection, edges);
        assert!(wanted.len() > 200, "the selection lost its dependencies");
        wanted.difference(&built).cloned().collect()
    }

    #[test]
    fn every_command_builds_the_same_dependencies() {
        let none: [String; 0] = [];
        let built = tested();
        assert_eq!(compiled_again(&built, &programs(), "normal,build"), none);
        let under_test = programs_under_test();
        assert_eq!(compiled_again(&built, &under_test, "normal,build"), none);
        let one_crate = some_tested(&["host-domain".to_owned()]);
        assert_eq!(compiled_again(&built, &one_crate, "normal,build,dev"), none);
        // Benchmarks enable features of shared dependencies: with them the rule is broken.
        let with_benchmarks = ["--workspace".to_owned()];
        assert_ne!(
            compiled_again(&with_benchmarks, &programs(), "normal,build"),
            none
        );
    }
}
