//! Generates `deploy/bellwether.example.yaml` from the configuration structs.
//!
//! Lines of prose begin with `# `, and keys that are not set with `#key`, so that an operator removes one character to set one.

use std::fmt::Write as _;

use host_server::config::Config;
use regex::Regex;
use serde_json::Value;

use super::settings::{Kind, Setting, all};
use super::{at, keep};

const FILE: &str = "deploy/bellwether.example.yaml";
/// Letters of a line of prose.
const LINE_MAX: usize = 100;

const INTRODUCTION: &str = "\
# Every setting of a host with its default; docs/configuration.md describes them.
# Generated from the configuration structs by tests/reference/example.rs; do not edit.
# A key that begins with `#` is not set, and its value is an example. Remove the `#` to set the key.
";

/// The whole file.
fn example() -> String {
    let mut example = Example {
        text: INTRODUCTION.to_owned(),
    };
    for setting in all() {
        example.text.push('\n');
        example.setting(&setting, "", false);
    }
    example.text
}

struct Example {
    text: String,
}

impl Example {
    fn setting(&mut self, setting: &Setting, indent: &str, is_off: bool) {
        self.prose(indent, &setting.description);
        let name = &setting.name;
        let inner = format!("{indent}  ");
        let is_set = setting
            .default
            .as_ref()
            .is_some_and(|value| !value.is_null());
        match &setting.kind {
            Kind::Value(_) => {
                let default = setting.default.clone().filter(|value| !value.is_null());
                let value = default.or_else(|| setting.example.clone());
                self.key(indent, is_off || !is_set, name, value.as_ref());
            }
            Kind::Section(settings) => {
                let is_off = is_off || !is_set;
                self.key(indent, is_off, name, None);
                for setting in settings {
                    self.setting(setting, &inner, is_off);
                }
            }
            Kind::List(settings) => {
                self.key(indent, true, name, None);
                // The first key of an item begins it.
                let (first, others) = settings.split_first().unwrap();
                self.prose(&inner, &first.description);
                let name = format!("- {}", first.name);
                self.key(&inner, true, &name, first.example.as_ref());
                for setting in others {
                    self.setting(setting, &format!("{inner}  "), true);
                }
            }
            Kind::Choice(keys) => {
                self.key(indent, true, name, None);
                self.choice(keys, &inner);
            }
            Kind::Map(variants) => {
                self.key(indent, true, name, None);
                for variant in variants {
                    self.prose(&inner, &variant.description);
                    self.key(&inner, true, &variant.name, None);
                    let inner = format!("{inner}  ");
                    let kind = Value::String(variant.name.clone());
                    self.key(&inner, true, "kind", Some(&kind));
                    for setting in &variant.settings {
                        self.setting(setting, &inner, true);
                    }
                }
            }
        }
    }

    /// One section for each key, because a section takes only one of them.
    fn choice(&mut self, keys: &[Setting], indent: &str) {
        let inner = format!("{indent}  ");
        for key in keys {
            self.key(indent, true, &format!("in-{}", key.name), None);
            self.setting(key, &inner, true);
        }
    }

    fn key(&mut self, indent: &str, is_off: bool, name: &str, value: Option<&Value>) {
        let mark = if is_off { "#" } else { "" };
        let value = value.map(|value| serde_yaml::to_string(value).unwrap());
        let value = value.map(|value| format!(" {}", value.trim_end()));
        let value = value.unwrap_or_default();
        writeln!(self.text, "{indent}{mark}{name}:{value}").unwrap();
    }

    fn prose(&mut self, indent: &str, text: &str) {
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.len() + word.len() >= LINE_MAX {
                writeln!(self.text, "{indent}#{line}").unwrap();
                line.clear();
            }
            write!(line, " {word}").unwrap();
        }
        writeln!(self.text, "{indent}#{line}").unwrap();
    }
}

fn read(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bellwether.yaml");
    std::fs::write(&path, text).unwrap();
    Config::read(Some(&path), std::iter::empty()).unwrap()
}

#[test]
fn the_example_configuration_is_the_one_that_is_generated() {
    keep(FILE, &example());
}

#[test]
fn the_example_configuration_has_the_defaults() {
    let text = std::fs::read_to_string(at(FILE)).unwrap();
    assert_eq!(read(&text), Config::default());
    assert!(text.contains("beat_interval: 15s"), "no value is set");
}

#[test]
fn a_key_of_the_example_is_set_by_removing_one_character() {
    let text = std::fs::read_to_string(at(FILE)).unwrap();
    let off = Regex::new(r"(?m)^( *)#([a-z-])").unwrap();
    let text = off.replace_all(&text, "$1$2");
    // The vault takes one of two logins, and the example shows both.
    let token = Regex::new(r"(?m)^ *token_file:.*\n").unwrap();
    let config = read(&token.replace_all(&text, ""));
    assert!(
        config
            .keys
            .vault
            .is_some_and(|vault| vault.approle.is_some())
    );
    assert!(config.keys.backup.is_some_and(|backup| backup.s3.is_some()));
    assert_eq!(config.machine_providers.len(), 3);
    assert_eq!(config.secrets.len(), 3);
}
