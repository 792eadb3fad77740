//! The shipped chain configurations and their published schemas.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use host_domain::config::step::{RenderedAction, TemplateValues};
use host_domain::config::{ValidateOptions, render_recipe, schemas};
use host_domain::plugin::PluginKind;
use host_server::chains::{ChainFolder, load_dir};
use tempfile::TempDir;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../chain-configs")
}

/// The shipped folder with stand-ins for the components, which are built and not committed.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_folder(&shipped(), dir.path());
    let components = dir.path().join("components");
    fs::create_dir_all(&components).unwrap();
    for name in ["evm", "host", "progress", "webhook"] {
        fs::write(components.join(format!("{name}.wasm")), name).unwrap();
    }
    dir
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn load(dir: &Path) -> ChainFolder {
    load_dir(dir, ValidateOptions { dev: true }).unwrap_or_else(|wrong| panic!("{wrong}"))
}

#[test]
fn the_shipped_folder_is_right() {
    let dir = copy();
    let folder = load(dir.path());
    let chain = &folder.set.chains["anvil-devnet"];
    let uses: Vec<_> = chain
        .plugin_uses()
        .map(|(name, kind, _)| (name, kind))
        .collect();
    let expected = [
        ("evm", PluginKind::Collector),
        ("host", PluginKind::Collector),
        ("progress", PluginKind::HealthPolicy),
    ];
    assert_eq!(uses, expected);
    assert!(folder.set.notifications.routes.is_empty());
    insta::assert_json_snapshot!(serde_json::json!({
        "profile": chain.profile,
        "runtime": chain.runtime,
        "observation": chain.observation,
        "recipes": chain.recipes,
    }));
}

#[test]
fn the_shipped_recipe_fills_in() {
    let dir = copy();
    let folder = load(dir.path());
    let values = TemplateValues {
        root: "/srv/nodes/1".to_owned(),
        ports: BTreeMap::from([("rpc".to_owned(), 18_545)]),
        inputs: BTreeMap::new(),
        node_id: "1".to_owned(),
        provider: "local".to_owned(),
        region: "local".to_owned(),
    };
    let steps = render_recipe(&folder.set.chains["anvil-devnet"], "full", &values).unwrap();
    let process = steps.iter().find_map(|step| match &step.action {
        RenderedAction::Process(process) => Some(process),
        _ => None,
    });
    let process = process.expect("the recipe starts a process");
    assert_eq!(process.command, "bin/anvil");
    assert_eq!(
        process.args.join(" "),
        "--port 18545 --host 127.0.0.1 --block-time 1 --state /srv/nodes/1/data/state.json --state-interval 2 --silent"
    );
}

/// The commented example is what people copy: it must work.
#[test]
fn the_example_of_a_webhook_is_right() {
    let dir = copy();
    let path = dir.path().join("notifications/default.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let example = text
        .lines()
        .skip_while(|line| *line != "#")
        .filter_map(|line| line.strip_prefix('#'));
    let example: Vec<&str> = example
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    assert!(example.len() > 10, "the example is gone");
    fs::write(
        &path,
        format!("schema_version: \"1.0\"\n{}\n", example.join("\n")),
    )
    .unwrap();
    let folder = load(dir.path());
    assert_eq!(folder.set.notifications.receivers[0].name, "operator");
    assert_eq!(folder.set.notifications.routes[0].receiver, "operator");
}

/// Rewrites the committed schemas and fails when one was not what the types say.
#[test]
fn the_published_schemas_are_those_of_the_types() {
    let mut dirty = Vec::new();
    for (name, schema) in schemas::published() {
        let path = shipped().join(format!("schema/{name}.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(schema).unwrap());
        if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
            fs::write(&path, text).unwrap();
            dirty.push(name);
        }
    }
    assert!(
        dirty.is_empty(),
        "schemas were out of date and are written anew: {dirty:?}; commit them"
    );
}

#[test]
fn each_file_names_its_schema() {
    for (file, schema) in [
        ("chains/anvil-devnet/profile.yaml", "profile"),
        ("chains/anvil-devnet/runtime.yaml", "runtime"),
        ("chains/anvil-devnet/observation.yaml", "observation"),
        ("recipes/anvil-devnet/full.yaml", "recipe"),
        ("notifications/default.yaml", "notifications"),
    ] {
        let path = shipped().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let named = first
            .strip_prefix("# yaml-language-server: $schema=")
            .unwrap_or_default();
        let target = path.parent().unwrap().join(named);
        assert!(
            named.ends_with(&format!("schema/{schema}.json")) && target.is_file(),
            "{file}: {first}"
        );
    }
}
