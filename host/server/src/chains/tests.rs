//! Folders on a real disk.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// The smallest folder that is right.
pub(super) fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| put(dir.path(), path, text);
    let version = "schema_version: \"1.0\"\n";
    put(
        "chains/toy/profile.yaml",
        &format!(
            "{version}chain_id: toy\ndisplay_name: Toy\nnetwork_type: devnet\nchain_type: toy\nnode_types:\n  full:\n    resources: {{cpu: 1, memory_gb: 1, disk_gb: 1}}\n    default_providers: [local]\n    providers:\n      local: {{instance_type: x, default_region: r, regions: [r]}}\nplugins:\n  see: {{component: components/see.wasm}}\n"
        ),
    );
    put(
        "chains/toy/runtime.yaml",
        &format!("{version}process: {{command: bin/toyd}}\n"),
    );
    put(
        "chains/toy/observation.yaml",
        &format!("{version}collectors:\n  - {{name: see, plugin: see, every: 5s}}\n"),
    );
    put(
        "recipes/toy/full.yaml",
        &format!("{version}steps:\n  - {{name: run, type: process, with: {{name: toyd}}}}\n"),
    );
    put("components/see.wasm", "first");
    dir
}

pub(super) fn put(dir: &Path, path: &str, text: &str) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn load_dev(dir: &Path) -> Result<ChainFolder, ChainErrors> {
    load_dir(dir, ValidateOptions { dev: true })
}

#[test]
fn the_version_follows_files_and_components() {
    let dir = folder();
    let first = load_dev(dir.path()).unwrap();
    assert_eq!(first.version, load_dev(dir.path()).unwrap().version);
    assert_eq!(first.components.len(), 1);
    put(dir.path(), "components/see.wasm", "second");
    let second = load_dev(dir.path()).unwrap();
    assert_ne!(first.version, second.version);
    assert_ne!(first.components, second.components);
    put(dir.path(), "README.md", "Nothing reads this.");
    put(dir.path(), "chains/toy/.profile.yaml.swp", "\u{0}");
    assert_eq!(second.version, load_dev(dir.path()).unwrap().version);
}

#[test]
fn the_mend_names_the_digest_that_is_missing() {
    let dir = folder();
    let (report, is_right) = validate(dir.path(), false, None);
    assert!(!is_right);
    let digest = &load_dev(dir.path()).unwrap().components["components/see.wasm"];
    assert!(
        report.contains(&format!("add `digest: {digest}`")),
        "{report}"
    );
    assert!(
        report.contains("chains/toy/profile.yaml:13:3: plugins.see: `digest` is missing"),
        "{report}"
    );
}

#[test]
fn no_link_leads_out_of_the_folder() {
    let dir = folder();
    let outside = tempfile::tempdir().unwrap();
    put(outside.path(), "secret.yaml", "password: x\n");
    put(outside.path(), "see.wasm", "theirs");
    std::os::unix::fs::symlink(
        outside.path().join("secret.yaml"),
        dir.path().join("chains/toy/link.yaml"),
    )
    .unwrap();
    fs::remove_file(dir.path().join("components/see.wasm")).unwrap();
    std::os::unix::fs::symlink(
        outside.path().join("see.wasm"),
        dir.path().join("components/see.wasm"),
    )
    .unwrap();
    let (report, is_right) = validate(dir.path(), true, None);
    assert!(!is_right);
    assert!(
        report.contains("chains/toy/link.yaml: a link that leads out of the folder"),
        "{report}"
    );
    assert!(
        report.contains("the file `components/see.wasm` does not exist"),
        "{report}"
    );
    assert!(!report.contains("password"), "{report}");
}

#[test]
fn a_link_within_the_folder_is_followed() {
    let dir = folder();
    fs::rename(
        dir.path().join("chains/toy"),
        dir.path().join("chains/.toy-1"),
    )
    .unwrap();
    std::os::unix::fs::symlink(".toy-1", dir.path().join("chains/toy")).unwrap();
    assert!(load_dev(dir.path()).is_ok());
}

#[test]
fn folders_without_a_chain_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (report, is_right) = validate(dir.path(), true, None);
    assert!(
        !is_right && report.contains("there is no chain"),
        "{report}"
    );
    let (report, is_right) = validate(&dir.path().join("nowhere"), true, None);
    assert!(
        !is_right && report.contains("name one that holds"),
        "{report}"
    );
}

#[test]
fn a_folder_that_is_too_large_is_left() {
    let dir = folder();
    for number in 0..5_001 {
        put(dir.path(), &format!("x/{number}.txt"), "");
    }
    let (report, is_right) = validate(dir.path(), true, None);
    assert!(
        !is_right && report.contains("more than 5000 files"),
        "{report}"
    );
}

#[test]
fn a_circle_of_links_ends() {
    let dir = folder();
    std::os::unix::fs::symlink("..", dir.path().join("chains/round")).unwrap();
    let (report, is_right) = validate(dir.path(), true, None);
    assert!(!is_right && report.contains("folders too deep"), "{report}");
}
