//! Tests the loader's reports row by row, and that no input makes it panic.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::step::{RenderedAction, TemplateValues, WaitTarget};
use super::*;

mod mistakes;

const PROFILE: &str = include_str!("profile.yaml");
const RUNTIME: &str = include_str!("runtime.yaml");
const OBSERVATION: &str = include_str!("observation.yaml");
const RECIPE: &str = include_str!("full.yaml");
const NOTIFICATIONS: &str = include_str!("notify.yaml");

const PROFILE_PATH: &str = "chains/toy/profile.yaml";
const RUNTIME_PATH: &str = "chains/toy/runtime.yaml";
const OBSERVATION_PATH: &str = "chains/toy/observation.yaml";
const RECIPE_PATH: &str = "recipes/toy/full.yaml";
const NOTIFICATIONS_PATH: &str = "notifications/notify.yaml";

/// Files by path.
type Folder = BTreeMap<String, Vec<u8>>;

/// The digest that every component has in these tests.
fn digest() -> String {
    format!("sha256:{}", "ab".repeat(32))
}

/// A valid folder.
fn good() -> Folder {
    [
        (PROFILE_PATH, PROFILE),
        (RUNTIME_PATH, RUNTIME),
        (OBSERVATION_PATH, OBSERVATION),
        (RECIPE_PATH, RECIPE),
        (NOTIFICATIONS_PATH, NOTIFICATIONS),
    ]
    .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
    .into()
}

fn load_folder(folder: &BTreeMap<String, Vec<u8>>) -> Result<ChainSet, diagnostics::Diagnostics> {
    let file = |(path, content): (&String, &Vec<u8>)| ConfigFile {
        path: path.clone(),
        content: content.clone(),
    };
    let files: Vec<ConfigFile> = folder.iter().map(file).collect();
    let digest_of = |path: &str| path.starts_with("components/").then(digest);
    load(&files, ValidateOptions { dev: false }, &digest_of)
}

fn values() -> TemplateValues {
    TemplateValues {
        root: "/srv/node".to_owned(),
        ports: BTreeMap::from([("rpc".to_owned(), 4_000)]),
        inputs: BTreeMap::from([("moniker".to_owned(), "ada".to_owned())]),
        node_id: "n1".to_owned(),
        provider: "local".to_owned(),
        region: "here".to_owned(),
    }
}

#[test]
fn a_folder_without_a_mistake_loads() {
    let set = load_folder(&good()).unwrap_or_else(|wrong| panic!("{wrong}"));
    let chain = &set.chains["toy"];
    let uses: Vec<_> = chain
        .plugin_uses()
        .map(|(name, kind, _)| (name, kind))
        .collect();
    assert_eq!(
        uses,
        [
            ("measure", PluginKind::Collector),
            ("rule", PluginKind::HealthPolicy)
        ]
    );
    assert_eq!(set.notifications.routes[0].group_wait.as_secs(), 30);
    assert_eq!(
        set.notifications.routes[0].repeat_interval.as_secs(),
        4 * 3_600
    );
}

#[test]
fn a_recipe_is_filled_in_for_a_node() {
    let set = load_folder(&good()).unwrap();
    let steps = render_recipe(&set.chains["toy"], "full", &values()).unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    // `restore` is omitted: its `when` renders to nothing.
    assert_eq!(
        names,
        [
            "folder", "config", "fetch", "unpack", "link", "identity", "run", "wait"
        ]
    );
    insta::assert_debug_snapshot!(steps);
}

#[test]
fn a_step_is_taken_when_its_condition_says_something() {
    for (sync_url, expected) in [
        ("\"\"", false),
        ("\"false\"", false),
        ("https://snap.example/x", true),
    ] {
        let mut folder = good();
        let profile = PROFILE.replace("snapshot_url: \"\"", &format!("snapshot_url: {sync_url}"));
        folder.insert(PROFILE_PATH.to_owned(), profile.into_bytes());
        let set = load_folder(&folder).unwrap_or_else(|wrong| panic!("{wrong}"));
        let steps = render_recipe(&set.chains["toy"], "full", &values());
        let is_there = steps.map(|steps| steps.iter().any(|step| step.name == "restore"));
        assert_eq!(is_there, Ok(expected), "{sync_url}");
    }
}

#[test]
fn an_input_can_not_lead_out_of_the_folder() {
    let mut folder = good();
    let recipe = RECIPE.replace("path: config/node.toml", "path: config/{{.Inputs.moniker}}");
    folder.insert(RECIPE_PATH.to_owned(), recipe.into_bytes());
    let set = load_folder(&folder).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut values = values();
    values
        .inputs
        .insert("moniker".to_owned(), "../../etc/passwd".to_owned());
    let error = render_recipe(&set.chains["toy"], "full", &values).unwrap_err();
    insta::assert_snapshot!(error, @"step `config`, with.path: `config/../../etc/passwd` leads outside the node's folder; write a path below the node's folder, such as `{{.Paths.data}}/x` or `data/x`");
}

#[test]
fn a_wait_has_its_target() {
    let set = load_folder(&good()).unwrap();
    let steps = render_recipe(&set.chains["toy"], "full", &values()).unwrap();
    let RenderedAction::WaitFor { target, .. } = &steps[7].action else {
        panic!("the last step waits");
    };
    assert_eq!(*target, WaitTarget::Tcp("127.0.0.1:4000".to_owned()));
}

#[test]
fn an_alias_bomb_is_stopped() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "a{level}: &a{level} [{aliases}]");
    }
    let mut folder = good();
    folder.insert(RECIPE_PATH.to_owned(), bomb.into_bytes());
    let wrong = load_folder(&folder).unwrap_err();
    assert!(
        wrong.0[0].message.contains("more than 50000 values"),
        "{wrong}"
    );
}

#[test]
fn an_alias_stands_for_its_value() {
    let mut folder = good();
    let recipe = RECIPE
        .replace("timeout: 90s", "timeout: &long 90s")
        .replace("timeout: 1m\n", "timeout: *long\n");
    assert_ne!(recipe, RECIPE);
    folder.insert(RECIPE_PATH.to_owned(), recipe.into_bytes());
    let set = load_folder(&folder).unwrap_or_else(|wrong| panic!("{wrong}"));
    let timeouts: Vec<u64> = set.chains["toy"].recipes["full"]
        .steps
        .iter()
        .map(|step| step.timeout.as_secs())
        .collect();
    assert_eq!(timeouts.iter().filter(|timeout| **timeout == 90).count(), 2);
}

/// Keywords of JSON Schema that `shape` supports, or that restrict nothing.
const UNDERSTOOD: [&str; 22] = [
    "$schema",
    "$ref",
    "$defs",
    "title",
    "description",
    "default",
    "format",
    "x-expects",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "enum",
    "const",
    "oneOf",
    "anyOf",
    "pattern",
    "minimum",
    "maximum",
    "minItems",
];

fn keywords(schema: &serde_json::Value, unknown: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else {
        return;
    };
    for (key, value) in rules {
        if !UNDERSTOOD.contains(&key.as_str()) {
            unknown.push(key.clone());
        }
        match (key.as_str(), value) {
            ("properties" | "$defs", serde_json::Value::Object(inner)) => {
                for schema in inner.values() {
                    keywords(schema, unknown);
                }
            }
            ("oneOf" | "anyOf", serde_json::Value::Array(inner)) => {
                for schema in inner {
                    keywords(schema, unknown);
                }
            }
            ("items" | "additionalProperties", schema) => keywords(schema, unknown),
            _ => {}
        }
    }
}

#[test]
fn every_keyword_of_the_schemas_is_understood() {
    let mut unknown = Vec::new();
    for (_, schema) in schemas::published() {
        keywords(schema, &mut unknown);
    }
    assert_eq!(unknown, Vec::<String>::new());
}

proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(text in any::<Vec<u8>>(), which in 0_usize..5) {
        let mut folder = good();
        let path = folder.keys().nth(which).unwrap().clone();
        folder.insert(path, text);
        prop_assert!(load_folder(&folder).is_err());
    }

    #[test]
    fn no_damage_makes_the_loader_panic(
        which in 0_usize..5,
        at in any::<prop::sample::Index>(),
        cut in 0_usize..40,
        put in "[ \\t\\n:\\-{}\\[\\]&*!|>'\"%@`#?,.a-z0-9é]{0,12}",
    ) {
        let mut folder = good();
        let (path, content) = folder.iter().nth(which).map(|(p, c)| (p.clone(), c.clone())).unwrap();
        let mut chars: Vec<char> = String::from_utf8(content).unwrap().chars().collect();
        let start = at.index(chars.len());
        let end = (start + cut).min(chars.len());
        chars.splice(start..end, put.chars());
        folder.insert(path, chars.into_iter().collect::<String>().into_bytes());
        if let Err(wrong) = load_folder(&folder) {
            prop_assert!(!wrong.0.is_empty());
            prop_assert!(wrong.0.iter().all(|one| !one.mend.is_empty() && !one.file.is_empty()));
            prop_assert!(!wrong.to_string().is_empty());
        }
    }

    #[test]
    fn no_template_makes_the_renderer_panic(text in "(\\{\\{|\\}\\}|\\{%|%\\}|[ .a-zA-Z0-9'\"|~*+()\\[\\]-]){0,30}") {
        let templates = template::Templates::new(serde_json::json!({ "Ports": { "rpc": 1 } }));
        if let Ok(rendered) = templates.render(&text) {
            prop_assert!(rendered.len() <= 256 << 10);
        }
    }
}
