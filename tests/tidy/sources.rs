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

/// Crates and the only folders whose sources may name them.
const NAMED_ONLY_IN: &[(&str, &[&str])] = &[
    ("wasmtime", &["host/runtime/"]),
    ("sqlx", &["host/server/src/store/", "tests/"]),
    ("axum", &["host/server/src/api/", "tests/"]),
    (
        "clap",
        &[
            "host/cli/",
            "host/server/src/commands/",
            "host/bellwether/",
            "host/agent/src/main.rs",
        ],
    ),
    ("wit_component", &["host/cli/src/plugin_tools/", "tests/"]),
    (
        "tonic",
        &[
            "host/server/src/gateway/",
            "host/agent/",
            "proto/",
            "tests/",
        ],
    ),
    ("async_nats", &["host/server/src/bus", "tests/"]),
    ("duroxide", &["host/server/src/engine/", "tests/"]),
    (
        "object_store",
        &[
            "host/server/src/keys/",
            "host/server/src/providers/opentofu/bucket.rs",
            "tests/",
        ],
    ),
    ("temporalio_client", &["host/server/src/engine/", "tests/"]),
    ("temporalio_common", &["host/server/src/engine/", "tests/"]),
    (
        "temporalio_sdk_core",
        &["host/server/src/engine/", "tests/"],
    ),
];

#[test]
fn each_framework_is_named_in_one_place() {
    let rule = |file: &File| {
        let mut found = Vec::new();
        for (name, places) in NAMED_ONLY_IN {
            let is_allowed = places.iter().any(|place| file.path.starts_with(place));
            let path = format!("{name}::");
            let uses = file
                .text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            // `engine::duroxide` is our own module.
            let mut uses =
                uses.filter(|line| line.contains(&path) && !line.contains(&format!("::{path}")));
            if !is_allowed && uses.next().is_some() {
                found.push(format!(
                    "names `{name}`, which only {} may",
                    places.join(", ")
                ));
            }
        }
        found
    };
    let ours: Vec<File> = files(".rs")
        .into_iter()
        .filter(|file| file.path.starts_with("host/"))
        .collect();
    check(
        rule,
        &ours,
        &File::new("host/server/src/ops/x.rs", "use sqlx::Row;\n"),
    );
}

/// Who may not import whom inside the server.
const NEVER: &[(&str, &[&str])] = &[
    (
        "host/server/src/api/",
        &["crate::store::Tx", "crate::store::Db", "crate::engine"],
    ),
    (
        "host/server/src/store/",
        &[
            "crate::api",
            "crate::ops",
            "crate::engine",
            "crate::gateway",
        ],
    ),
    ("host/server/src/ops/", &["crate::commands"]),
    ("host/server/src/api/", &["crate::commands"]),
    ("host/server/src/ops/", &["crate::api", "crate::reconcile"]),
    (
        "host/server/src/gateway/",
        &["crate::api", "crate::ops", "crate::engine"],
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
    let violation = File::new("host/server/src/store/x.rs", "use crate::ops::OpError;\n");
    check(rule, &files(".rs"), &violation);
}

/// Crates that can wait, read, write or ask for the time.
const IMPURE: &[&str] = &[
    "tokio", "sqlx", "axum", "tonic", "reqwest", "wasmtime", "rustix", "rand", "tempfile",
];

#[test]
fn the_pure_crates_depend_on_nothing_that_can_wait_or_write() {
    let rule = |file: &File| {
        let own = file
            .text
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        let names = own
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next());
        names
            .filter(|name| IMPURE.contains(name))
            .map(|name| format!("depends on `{name}`"))
            .collect()
    };
    let manifest =
        |name: &str| File::new(name, &std::fs::read_to_string(root().join(name)).unwrap());
    let pure = [
        manifest("host/domain/Cargo.toml"),
        manifest("host/workflows/Cargo.toml"),
        manifest("host/wire/Cargo.toml"),
    ];
    check(
        rule,
        &pure,
        &File::new("x/Cargo.toml", "[dependencies]\ntokio.workspace = true\n"),
    );
}

/// What the command line never needs, because it has only the public API.
const HOST_ONLY: &[&str] = &[
    "sqlx",
    "axum",
    "tonic",
    "wasmtime",
    "duroxide",
    "async-nats",
    "object_store",
];

#[test]
fn the_cli_reaches_a_host_by_http_only() {
    let tree = |package: &str| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let listed = std::process::Command::new(cargo)
            .args([
                "tree",
                "--offline",
                "--locked",
                "--edges",
                "normal",
                "--prefix",
                "none",
            ])
            .args(["--format", "{p}", "--package", package])
            .current_dir(root())
            .output()
            .unwrap();
        let text = String::from_utf8(listed.stdout).unwrap();
        assert!(
            text.contains(package),
            "cargo tree lists nothing: {listed:?}"
        );
        File::new(package, &text)
    };
    let rule = |file: &File| {
        let lines = file.text.lines();
        let names = lines.filter_map(|line| line.split(' ').next());
        let is_ours = |name: &str| name.starts_with("host-");
        let allowed = [file.path.as_str(), "host-domain", "host-wire"];
        let mut found: Vec<String> = names
            .filter(|name| HOST_ONLY.contains(name) || is_ours(name) && !allowed.contains(name))
            .map(|name| format!("reaches `{name}`"))
            .collect();
        found.dedup();
        found
    };
    let violation = File::new("host-cli", "host-cli v0.1.0\nsqlx v0.9.0\n");
    check(rule, &[tree("host-cli"), tree("host-wire")], &violation);
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
