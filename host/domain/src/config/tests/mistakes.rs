//! The table of mistakes: each row changes a valid file once, and the snapshot shows the report.

use super::*;

/// A row: the mistake, the file, the replaced text and its replacement.
type Row = (&'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const TABLE: [Row; 70] = [
    ("unknown key", PROFILE_PATH, "display_name:", "dispaly_name:"),
    ("unknown key far from all", PROFILE_PATH, "chain_type: toy", "chain_type: toy\ncolour: red"),
    ("key of a later version", PROFILE_PATH, "inputs:", "payments: {}\ninputs:"),
    ("key outside the node's folder", PROFILE_PATH, "path: config/p2p.key", "path: ../p2p.key"),
    ("two keys in one file", PROFILE_PATH, "path: config/engine.jwt", "path: config/p2p.key"),
    ("algorithm that is none", PROFILE_PATH, "algorithm: ed25519", "algorithm: rsa"),
    ("key of nobody", PROFILE_PATH, "algorithm: ed25519", "algorithm: ed25519\n    source: nobody"),
    ("unknown key of a step", RECIPE_PATH, "with: {name: p2p}", "with: {name: p2q}"),
    ("node status", RUNTIME_PATH, "paths:", "node_status: {healthy_expression: up == 1}\npaths:"),
    ("missing key", PROFILE_PATH, "        instance_type: cx32\n", ""),
    ("missing version", RECIPE_PATH, "schema_version: \"1.0\"\n", ""),
    ("version as a number", PROFILE_PATH, "\"1.0\"", "1.0"),
    ("another version", PROFILE_PATH, "\"1.0\"", "\"2.0\""),
    ("text instead of a number", PROFILE_PATH, "cpu: 2", "cpu: two"),
    ("number out of range", PROFILE_PATH, "memory_mib: 32", "memory_mib: 0"),
    ("port out of range", RUNTIME_PATH, "26657", "70000"),
    ("negative number", PROFILE_PATH, "amount: 4900", "amount: -1"),
    ("fraction of a price", PROFILE_PATH, "amount: 4900", "amount: 49.5"),
    ("list instead of a mapping", RUNTIME_PATH, "ports:\n  rpc: {default: 26657}\n  p2p: {default: 0}", "ports: [rpc, p2p]"),
    ("mapping instead of a list", RECIPE_PATH, "steps:", "steps: {}\nother:"),
    ("number instead of text", RUNTIME_PATH, "command: bin/toyd", "command: 5"),
    ("argument that is a number", RUNTIME_PATH, "    - start\n", "    - 26657\n"),
    ("nothing instead of text", RUNTIME_PATH, "command: bin/toyd", "command:"),
    ("word that is none of an enum", PROFILE_PATH, "network_type: testnet", "network_type: tesnet"),
    ("duration without a unit", OBSERVATION_PATH, "every: 5s", "every: 5"),
    ("duration with a bad unit", OBSERVATION_PATH, "window: 2m", "window: 2 minutes"),
    ("duration that overflows", RECIPE_PATH, "timeout: 1m\n", "timeout: 999999999999d\n"),
    ("size without a unit", RUNTIME_PATH, "max_size: 8MiB", "max_size: 8MB"),
    ("digest of a bad form", PROFILE_PATH, "  rule:\n    component: components/rule.wasm\n    digest: sha256:ab", "  rule:\n    component: components/rule.wasm\n    digest: sha256:zz"),
    ("missing digest", PROFILE_PATH, "rule.wasm\n    digest: sha256:abababababababababababababababababababababababababababababababab", "rule.wasm"),
    ("digest of another component", PROFILE_PATH, "rule.wasm\n    digest: sha256:ab", "rule.wasm\n    digest: sha256:00"),
    ("missing component", PROFILE_PATH, "components/rule.wasm", "component/rule.wasm"),
    ("component from elsewhere", PROFILE_PATH, "components/rule.wasm", "oci://ghcr.io/x/rule:1"),
    ("component outside the folder", PROFILE_PATH, "components/rule.wasm", "../rule.wasm"),
    ("unknown plugin", OBSERVATION_PATH, "plugin: measure", "plugin: mesure"),
    ("plugin in two roles", OBSERVATION_PATH, "plugin: rule", "plugin: measure"),
    ("granted port that does not exist", PROFILE_PATH, "node:rpc", "node:rcp"),
    ("granted target that is no URL", PROFILE_PATH, "https://api.example/v1", "api.example"),
    ("node target for a notifier", NOTIFICATIONS_PATH, "target: https://hooks.example/x", "target: node:rpc"),
    ("more computing than time", PROFILE_PATH, "cpu: 500ms", "cpu: 50s"),
    ("region that does not exist", PROFILE_PATH, "default_region: fsn1", "default_region: fsn2"),
    ("provider that does not exist", PROFILE_PATH, "[hetzner]", "[hetzer]"),
    ("chain id unlike its folder", PROFILE_PATH, "chain_id: toy", "chain_id: toi"),
    ("node type without a recipe", PROFILE_PATH, "node_types:\n  full:", "node_types:\n  archive:"),
    ("term that is no duration", PROFILE_PATH, "365d:", "yearly:"),
    ("bad pattern", PROFILE_PATH, "\"[a-z]+\"", "\"[a-z+\""),
    ("download without a checksum", PROFILE_PATH, ".tar.gz\n    checksum: sha256:abababababababababababababababababababababababababababababababab", ".tar.gz"),
    ("name that templates can't write", RUNTIME_PATH, "  p2p:", "  p-2-p:"),
    ("unknown port in a template", RUNTIME_PATH, "{{.Ports.rpc}}", "{{.Ports.rcp}}"),
    ("unknown path in a template", RECIPE_PATH, "{{.Paths.data}}/snapshot.tar", "{{.Paths.date}}/snapshot.tar"),
    ("unknown first name in a template", RECIPE_PATH, "{{.SyncData.snapshot_url}}", "{{.Sync.snapshot_url}}"),
    ("unknown name in a branch", RUNTIME_PATH, "%}--from-snapshot{%", "%}--from={{.SyncData.snap}}{%"),
    ("unclosed template", RECIPE_PATH, "{{.Binaries.toyd.url}}", "{{.Binaries.toyd.url"),
    ("statement that templates don't have", RECIPE_PATH, "{{.Version}}", "{% set x = 1 %}"),
    ("template over several lines", RECIPE_PATH, "p2p = {{.Ports.p2p}}", "p2p = {{.Ports.ptp}}"),
    ("unknown step type", RECIPE_PATH, "type: extract", "type: extrakt"),
    ("step without a type", RECIPE_PATH, "    type: extract\n", ""),
    ("unknown key of a step", RECIPE_PATH, "strip: 1", "stripp: 1"),
    ("undo", RECIPE_PATH, "creates: bin/toyd", "undo: rm"),
    ("path out of the folder", RECIPE_PATH, "path: config/node.toml", "path: ../node.toml"),
    ("absolute path", RECIPE_PATH, "archive: toyd.tar.gz", "archive: /etc/toyd.tar.gz"),
    ("package that is an option", RECIPE_PATH, "type: binary\n    with: {name: toyd, source: software/toyd, version: \"{{.Version}}\"}", "type: package\n    with: {manager: apt, name: --help, version: 1.2.3, integrity: \"{{.Binaries.toyd.checksum}}\"}"),
    ("URL without a scheme", RECIPE_PATH, "https://snap.example/", "snap.example/"),
    ("wait without a target", RECIPE_PATH, "tcp: \"127.0.0.1:{{.Ports.rpc}}\", ", ""),
    ("permissions without quotes", RECIPE_PATH, "mode: \"0700\"", "mode: 700"),
    ("step name there twice", RECIPE_PATH, "name: unpack", "name: fetch"),
    ("window shorter than the pause", OBSERVATION_PATH, "window: 2m", "window: 5s"),
    ("pause out of range", OBSERVATION_PATH, "every: 5s", "every: 100ms"),
    ("unknown receiver", NOTIFICATIONS_PATH, "receiver: ops", "receiver: oops"),
    ("silence without an end", NOTIFICATIONS_PATH, "    until: 2030-01-01T00:00:00Z\n", ""),
];

#[rustfmt::skip]
const OF_YAML: [Row; 9] = [
    ("key there twice", PROFILE_PATH, "chain_type: toy", "chain_type: toy\nchain_id: other"),
    ("tab", RUNTIME_PATH, "  rpc:", "\trpc:"),
    ("wrong indentation", OBSERVATION_PATH, "    plugin: measure", "   plugin: measure"),
    ("open bracket", PROFILE_PATH, "[fsn1, nbg1]", "[fsn1, nbg1"),
    ("second document", NOTIFICATIONS_PATH, "silences:", "---\nsilences:"),
    ("tag", PROFILE_PATH, "chain_id: toy", "chain_id: !!str toy"),
    ("alias without its anchor", PROFILE_PATH, "chain_id: toy", "chain_id: *toy"),
    ("merge key", RUNTIME_PATH, "paths:\n", "paths:\n  <<: {home: x}\n"),
    ("time that does not exist", NOTIFICATIONS_PATH, "2030-01-01", "2030-02-30"),
];

fn mistakes_of(row: &Row) -> Vec<diagnostics::Diagnostic> {
    let (what, path, from, to) = *row;
    let mut folder = good();
    let text = String::from_utf8(folder[path].clone()).unwrap();
    assert!(text.contains(from), "{what}: `{from}` is not in {path}");
    folder.insert(path.to_owned(), text.replacen(from, to, 1).into_bytes());
    load_folder(&folder).expect_err(what).0
}

#[test]
fn every_mistake_names_its_place_and_its_mend() {
    let mut report = String::new();
    for row in TABLE.iter().chain(&OF_YAML) {
        let (what, path, ..) = *row;
        let found = mistakes_of(row);
        let own: Vec<_> = found.iter().filter(|one| one.file == path).collect();
        assert!(!own.is_empty(), "{what}: no mistake is reported for {path}");
        for one in own {
            assert!(
                one.line > 0 && one.column > 0 && !one.excerpt.is_empty(),
                "{what}: {one}"
            );
            assert!(!one.mend.is_empty(), "{what}: {one}");
        }
        let _ = writeln!(report, "## {what}");
        for one in &found {
            let _ = writeln!(report, "{one}");
        }
        report.push('\n');
    }
    insta::assert_snapshot!(report);
}

/// Mistakes that concern a whole file have no line.
#[test]
fn files_that_are_wrong_as_a_whole() {
    let mut report = String::new();
    let mut check = |what: &str, change: &dyn Fn(&mut Folder)| {
        let mut folder = good();
        change(&mut folder);
        let wrong = load_folder(&folder).expect_err(what);
        let _ = writeln!(report, "## {what}\n{wrong}\n");
    };
    let put = |folder: &mut Folder, path: &str, content: &[u8]| {
        folder.insert(path.to_owned(), content.to_vec());
    };
    check("not UTF-8", &|f| {
        put(f, RUNTIME_PATH, b"schema_version: \"1.0\"\nports: \xff\n");
    });
    check("empty", &|f| put(f, RUNTIME_PATH, b"# nothing\n"));
    check("too large", &|f| {
        put(f, RUNTIME_PATH, &vec![b'#'; FILE_BYTES_MAX + 1]);
    });
    check("no runtime", &|f| drop(f.remove(RUNTIME_PATH)));
    check("no recipe", &|f| drop(f.remove(RECIPE_PATH)));
    check("recipe without its node type", &|f| {
        put(f, "recipes/toy/ful.yaml", RECIPE.as_bytes());
    });
    check("recipe without its profile", &|f| {
        put(f, "recipes/tay/full.yaml", RECIPE.as_bytes());
    });
    check("other ending", &|f| {
        put(f, "notifications/more.yml", NOTIFICATIONS.as_bytes());
    });
    check("in the wrong place", &|f| {
        put(f, "upgrades/toy/v2.yaml", b"x: 1\n");
    });
    check("unknown file of a chain", &|f| {
        put(f, "chains/toy/profil.yaml", b"x: 1\n");
    });
    check("names of another notification file", &|f| {
        put(f, "notifications/more.yaml", NOTIFICATIONS.as_bytes());
    });
    insta::assert_snapshot!(report);
}

#[test]
fn all_mistakes_of_a_folder_are_told_at_once() {
    let mut folder = good();
    let edit = |folder: &mut BTreeMap<String, Vec<u8>>, path: &str, from: &str, to: &str| {
        let text = String::from_utf8(folder[path].clone())
            .unwrap()
            .replacen(from, to, 1);
        folder.insert(path.to_owned(), text.into_bytes());
    };
    edit(&mut folder, PROFILE_PATH, "display_name", "disply_name");
    edit(&mut folder, PROFILE_PATH, "cpu: 2", "cpu: two");
    edit(&mut folder, RUNTIME_PATH, "8MiB", "8");
    edit(&mut folder, OBSERVATION_PATH, "every: 5s", "every: 5");
    edit(&mut folder, RECIPE_PATH, "type: extract", "type: extrakt");
    edit(
        &mut folder,
        NOTIFICATIONS_PATH,
        "receiver: ops",
        "receiver: oops",
    );
    let found = load_folder(&folder).unwrap_err().0;
    let places: Vec<String> = found
        .iter()
        .map(|one| format!("{} {}", one.file, one.path))
        .collect();
    insta::assert_snapshot!(places.join("\n"), @"
    chains/toy/observation.yaml collectors[0].every
    chains/toy/profile.yaml disply_name
    chains/toy/profile.yaml node_types.full.resources.cpu
    chains/toy/runtime.yaml process.log.max_size
    notifications/notify.yaml routes[0].receiver
    recipes/toy/full.yaml steps[4].type
    ");
}

#[test]
fn development_goes_without_digests() {
    let file = |path: &str, text: &str| ConfigFile {
        path: path.to_owned(),
        content: text.into(),
    };
    let without = PROFILE.replace(&format!("    digest: {}\n", digest()), "");
    let files = [
        file(PROFILE_PATH, &without),
        file(RUNTIME_PATH, RUNTIME),
        file(OBSERVATION_PATH, OBSERVATION),
        file(RECIPE_PATH, RECIPE),
    ];
    let digest_of = |_: &str| Some(digest());
    assert!(load(&files, ValidateOptions { dev: true }, &digest_of).is_ok());
    let strict = load(&files, ValidateOptions { dev: false }, &digest_of).unwrap_err();
    assert_eq!(strict.0.len(), 2, "{strict}");
}

#[test]
fn a_granted_secret_without_a_value_is_a_mistake_of_its_grant() {
    let grants = "    grants:\n      secrets: [there, token]\n";
    let notify = NOTIFICATIONS.replace("    grants:\n", grants);
    let profile = PROFILE.replace("    grants:\n", grants);
    assert_ne!(profile, PROFILE, "the profile grants something");
    let file = |path: &str, text: &str| ConfigFile {
        path: path.to_owned(),
        content: text.into(),
    };
    let files = [
        file(PROFILE_PATH, &profile),
        file(RUNTIME_PATH, RUNTIME),
        file(OBSERVATION_PATH, OBSERVATION),
        file(RECIPE_PATH, RECIPE),
        file(NOTIFICATIONS_PATH, &notify),
    ];
    let digest_of = |_: &str| Some(digest());
    let missing = |name: &str| (name == "token").then(|| "`secrets.token` is not set".to_owned());
    let options = ValidateOptions { dev: false };
    assert!(load(&files, options, &digest_of).is_ok());
    let wrong = load_with_secrets(&files, options, &digest_of, &missing).unwrap_err();
    // Plugins of chains run at agents, which have secrets of their own.
    let [found] = wrong.0.as_slice() else {
        panic!("{wrong}")
    };
    assert_eq!(found.file, NOTIFICATIONS_PATH);
    assert_eq!(found.path, "plugins.hook.grants.secrets[1]");
    let text = wrong.to_string();
    let expected = "the secret `token` has no value: `secrets.token` is not set";
    assert!(text.contains(expected), "{text}");
    assert!(
        text.contains("set `secrets.token` in the host's settings"),
        "{text}"
    );
}
