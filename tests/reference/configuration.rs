//! Generates `docs/configuration.md` from the configuration structs.

use std::fmt::Write as _;

use host_server::config::Config;
use serde_json::Value;

use super::settings::{Kind, Setting, all};
use super::{at, keep};

const PAGE: &str = "docs/configuration.md";

const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the configuration structs by tests/reference/configuration.rs; do not edit. -->

A host takes each setting from the last of these that has it:

1. the default
2. the configuration file: `bellwether.yaml` in the current directory, or the file named with `--config FILE`
3. an environment variable: `BELLWETHER_HTTP__LISTEN=0.0.0.0:8080` sets `http.listen`, with `__` between the parts of the key. Lists, maps and keys without a section can be set in the file only.

A host that meets an unknown key or a wrong value exits at startup with an error that names the key. A host reads its configuration only at startup.

[deploy/bellwether.example.yaml](../deploy/bellwether.example.yaml) has every key with its default.

- A *duration* is a whole number with one unit: `500ms`, `30s`, `5m`, `1h` or `7d`.
- A *secret* may hold a password. Logs, errors and the API never show it. Other secrets can be set only by the path of a file that holds them.
- The defaults of an optional section apply when the section is present.
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let (sections, values): (Vec<Setting>, Vec<Setting>) = all()
        .into_iter()
        .partition(|setting| !matches!(setting.kind, Kind::Value(_)));
    page.push_str("\n## Without a section\n\n");
    table(&mut page, "", &values);
    for section in &sections {
        let Setting {
            name, description, ..
        } = section;
        write!(page, "\n## {name}\n\n{description}\n").unwrap();
        match &section.kind {
            Kind::Section(settings) => {
                page.push('\n');
                table(&mut page, &format!("{name}."), settings);
            }
            Kind::Map(variants) => {
                for variant in variants {
                    let kind = &variant.name;
                    let description = &variant.description;
                    write!(
                        page,
                        "\n### {name}.NAME with `kind: {kind}`\n\n{description}\n\n"
                    )
                    .unwrap();
                    let prefix = format!("{name}.NAME.");
                    page.push_str("| key | type | default | description |\n|---|---|---|---|\n");
                    row(
                        &mut page,
                        &format!("{prefix}kind"),
                        &format!("`{kind}`"),
                        "required",
                        "Kind of the machine provider.",
                    );
                    rows(&mut page, &prefix, &variant.settings);
                }
            }
            Kind::Choice(keys) => {
                write!(
                    page,
                    "\nEach `{name}.NAME` has exactly one of these keys:\n\n"
                )
                .unwrap();
                table(&mut page, &format!("{name}.NAME."), keys);
            }
            Kind::List(_) | Kind::Value(_) => panic!("`{name}` is no section"),
        }
    }
    page
}

fn table(page: &mut String, prefix: &str, settings: &[Setting]) {
    page.push_str("| key | type | default | description |\n|---|---|---|---|\n");
    rows(page, prefix, settings);
}

fn rows(page: &mut String, prefix: &str, settings: &[Setting]) {
    for setting in settings {
        let key = format!("{prefix}{}", setting.name);
        let default = default(setting);
        match &setting.kind {
            Kind::Value(name) => row(page, &key, name, &default, &setting.description),
            Kind::Section(inner) => {
                // A section that is always there has nothing to set but its keys.
                if default == "none" {
                    row(page, &key, "section", &default, &setting.description);
                }
                rows(page, &format!("{key}."), inner);
            }
            Kind::List(inner) => {
                row(
                    page,
                    &key,
                    "list of sections",
                    &default,
                    &setting.description,
                );
                rows(page, &format!("{key}[]."), inner);
            }
            Kind::Map(_) | Kind::Choice(_) => panic!("`{key}` is a map inside a section"),
        }
    }
}

fn row(page: &mut String, key: &str, type_name: &str, default: &str, description: &str) {
    assert!(!description.is_empty(), "`{key}` has no description");
    let description = description.replace('|', "\\|");
    writeln!(
        page,
        "| `{key}` | {type_name} | {default} | {description} |"
    )
    .unwrap();
}

fn default(setting: &Setting) -> String {
    match &setting.default {
        None => "required".to_owned(),
        Some(Value::Null) => "none".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "empty".to_owned(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
    }
}

/// Every key of a tree of values, with its sections.
fn keys(prefix: &str, value: &Value, found: &mut Vec<(String, Value)>) {
    match value.as_object() {
        Some(section) if prefix.is_empty() || !section.is_empty() => {
            for (name, value) in section {
                let key = if prefix.is_empty() {
                    name.clone()
                } else {
                    format!("{prefix}.{name}")
                };
                keys(&key, value, found);
            }
        }
        _ => found.push((prefix.to_owned(), value.clone())),
    }
}

#[test]
fn the_page_of_settings_is_the_one_that_is_generated() {
    keep(PAGE, &page());
}

#[test]
fn every_setting_is_on_the_page_with_its_default() {
    let page = std::fs::read_to_string(at(PAGE)).unwrap();
    let mut found = Vec::new();
    let defaults = serde_json::to_value(Config::default()).unwrap();
    keys("", &defaults, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for (key, value) in found {
        let row = page
            .lines()
            .find(|line| line.starts_with(&format!("| `{key}` |")) || *line == format!("## {key}"));
        let row = row.unwrap_or_else(|| panic!("{PAGE} lacks `{key}`"));
        if let (true, Some(text)) = (row.starts_with('|'), value.as_str()) {
            assert!(row.contains(&format!("| `{text}` |")), "{row}: {text}");
        }
    }
}
