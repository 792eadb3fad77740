//! Rules about crates, checked on the dependency graph that Cargo resolves.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use super::root;

/// Crates of the workspace that speak to one part of the outside world; none may reach another one.
const ADAPTERS: &[&str] = &[
    "host-store",
    "host-engine",
    "host-bus",
    "host-keys",
    "host-secrets",
    "host-machines",
    "host-gateway",
];

/// Crates that can wait, read, write or ask for the time.
const RUNTIME: &[&str] = &[
    "tokio", "sqlx", "axum", "tonic", "reqwest", "wasmtime", "rustix", "rand", "tempfile",
];

/// What the command line must do without: it speaks HTTP to a host.
const NOT_FOR_THE_CLI: &[&str] = &["sqlx", "axum", "wasmtime", "host-server", "host-store"];

/// Frameworks, and the only crates of the workspace that depend on them directly outside tests.
const FRAMEWORKS: &[(&str, &[&str])] = &[
    ("wasmtime", &["host-runtime"]),
    ("sqlx", &["host-store", "host-engine"]),
    ("axum", &["host-server"]),
    ("tonic", &["host-gateway", "host-agent", "proto"]),
    ("async-nats", &["host-bus"]),
    ("duroxide", &["host-engine"]),
    ("temporalio-client", &["host-engine"]),
    ("object_store", &["host-keys", "host-machines"]),
    (
        "clap",
        &["host-cli", "host-server", "host-agent", "bellwether"],
    ),
];

/// Packages by name, each with the names of its normal and build dependencies.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn read() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .current_dir(root())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata failed: {errors}");
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let names: BTreeMap<String, String> = array(&metadata["packages"])
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in array(&metadata["resolve"]["nodes"]) {
            let used = array(&node["deps"])
                .filter(|dep| array(&dep["dep_kinds"]).any(|kind| kind["kind"] != "dev"))
                .map(|dep| names[dep["pkg"].as_str().unwrap()].clone());
            let of = graph.entry(names[node["id"].as_str().unwrap()].clone());
            of.or_default().extend(used);
        }
        Self(graph)
    }

    /// Everything that a package reaches, itself left out.
    fn reached(&self, package: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![package];
        while let Some(name) = next.pop() {
            for dep in &self.0[name] {
                if reached.insert(dep.as_str()) {
                    next.push(dep);
                }
            }
        }
        reached
    }

    /// Those of `banned` that a package reaches.
    fn violations(&self, package: &str, banned: &[&str]) -> Vec<String> {
        let reached = self.reached(package);
        let found = banned
            .iter()
            .filter(|name| **name != package && reached.contains(**name));
        found
            .map(|name| format!("`{package}` reaches `{name}`"))
            .collect()
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

#[test]
fn the_pure_crates_depend_on_nothing_that_can_wait_or_write() {
    let graph = Graph::read();
    for pure in ["host-domain", "host-workflows", "host-wire"] {
        assert_eq!(graph.violations(pure, RUNTIME), Vec::<String>::new());
    }
    assert!(
        !graph.violations("host-store", RUNTIME).is_empty(),
        "the rule overlooks its violation"
    );
}

#[test]
fn no_adapter_reaches_another_one() {
    let graph = Graph::read();
    for adapter in ADAPTERS {
        assert_eq!(graph.violations(adapter, ADAPTERS), Vec::<String>::new());
    }
    assert!(
        !graph.violations("host-server", ADAPTERS).is_empty(),
        "the rule overlooks its violation"
    );
}

#[test]
fn the_cli_reaches_a_host_by_http_only() {
    let graph = Graph::read();
    for package in ["host-cli", "host-wire"] {
        assert_eq!(
            graph.violations(package, NOT_FOR_THE_CLI),
            Vec::<String>::new()
        );
    }
    assert!(
        !graph.violations("host-server", NOT_FOR_THE_CLI).is_empty(),
        "the rule overlooks its violation"
    );
}

#[test]
fn each_framework_has_its_crates() {
    let graph = Graph::read();
    for (framework, owners) in FRAMEWORKS {
        let users: Vec<&str> = graph
            .0
            .iter()
            .filter(|(name, _)| {
                name.starts_with("host-") || *name == "proto" || *name == "bellwether"
            })
            .filter(|(_, uses)| uses.contains(*framework))
            .map(|(name, _)| name.as_str())
            .collect();
        assert!(!users.is_empty(), "nobody uses `{framework}` any more");
        for user in users {
            assert!(owners.contains(&user), "`{user}` depends on `{framework}`");
        }
    }
}
