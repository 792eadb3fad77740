//! Tests of what the build reads from cargo, and of which modules it rejects.

use super::*;

/// A workspace at `/w` with a plugin, the SDK beside it and a crate of a registry.
fn project() -> Project {
    let cdylib = r#"[{"crate_types": ["cdylib", "rlib"]}]"#;
    let lib = r#"[{"crate_types": ["lib"]}]"#;
    let package = |name: &str, manifest: &str, source: &str, targets: &str| {
        format!(
            r#"{{"id": "{name}-id", "name": "{name}", "manifest_path": "{manifest}", "source": {source}, "targets": {targets}}}"#
        )
    };
    let packages = [
        package("b", "/w/b/Cargo.toml", "null", cdylib),
        package("a", "/w/a/Cargo.toml", "null", cdylib),
        package("sdk", "/sdk/Cargo.toml", "null", lib),
        package(
            "serde",
            "/home/.cargo/serde/Cargo.toml",
            "\"registry\"",
            cdylib,
        ),
    ];
    let text = format!(
        r#"{{"packages": [{}], "workspace_members": ["a-id", "b-id", "sdk-id"], "workspace_root": "/w"}}"#,
        packages.join(",")
    );
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_workspace_gives_all_plugins_and_a_crate_itself() {
    assert_eq!(project().plugins(Path::new("/w")).unwrap(), ["a", "b"]);
    assert_eq!(project().plugins(Path::new("/w/b")).unwrap(), ["b"]);
    let none = Project {
        workspace_members: Vec::new(),
        ..project()
    };
    let error = none.plugins(Path::new("/w")).unwrap_err().to_string();
    assert!(
        error.contains("no plugin in /w") && error.contains("cdylib"),
        "{error}"
    );
}

#[test]
fn paths_of_the_machine_are_remapped_the_longer_ones_last() {
    let toolchain = GuestToolchain {
        env: Vec::new(),
        sysroot: PathBuf::from("/rust"),
    };
    let flags = project().remaps(&toolchain);
    let place = |flag: &str| {
        flags
            .iter()
            .position(|have| have == flag)
            .unwrap_or_else(|| panic!("{flags:?}"))
    };
    assert!(
        place("--remap-path-prefix=/w=/plugins") < place("--remap-path-prefix=/w/a=/plugins/a")
    );
    place("--remap-path-prefix=/sdk=/plugins/sdk");
    place("--remap-path-prefix=/rust/lib/rustlib/src/rust=/rustc");
}

#[test]
fn modules_are_found_in_cargos_report() {
    let report = r#"
{"reason":"compiler-artifact","package_id":"sdk-id","filenames":["/t/libsdk.rlib"]}
{"reason":"compiler-artifact","package_id":"a-id","filenames":["/t/a.wasm","/t/liba.rlib"]}
{"reason":"build-finished","success":true}
not json
"#;
    let expected = BTreeMap::from([("a".to_owned(), PathBuf::from("/t/a.wasm"))]);
    assert_eq!(modules(report, &project()), expected);
}

#[test]
fn a_module_that_is_no_plugin_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("empty.module");
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    for (bytes, complaint) in [
        (&b"\0asm\x01\0\0\0"[..], "is not a plugin"),
        (b"junk", "can't be converted into a component"),
    ] {
        fs::write(&module, bytes).unwrap();
        let error = make_component("empty", &module, &out).unwrap_err();
        assert!(format!("{error:#}").contains(complaint), "{error:#}");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
    }
}
