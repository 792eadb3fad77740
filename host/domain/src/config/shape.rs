//! Validates a document by the JSON Schema of its kind and reports every difference.
//!
//! The schema is the published one, generated from the types, so editors and the loader agree. Deserialising alone
//! would stop at the first mistake and would not know its place inside a tagged step. This supports only the keywords
//! that schemars writes for our types; a test fails on any other keyword.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Map, Value};

use super::diagnostics::{Diagnostic, Path, Source, did_you_mean, nearest};
use super::schema_words::{
    allowed_texts, allows_null, expects, found, is_closed, optional_inner, short, type_of,
};
use super::tree::{Entry, Kind, Node, Place};

/// Keys that people may expect although this host does not implement them, and what to do instead.
const NOT_YET: [(&str, &str); 11] = [
    (
        "node_status",
        "delete it and judge the node by a policy in observation.yaml",
    ),
    (
        "undo",
        "delete it: the agent undoes finished steps by itself",
    ),
    (
        "emit",
        "delete it: a collector declares its own observations",
    ),
    (
        "use",
        "write `plugin: <name>` and declare the plugin in profile.yaml",
    ),
    (
        "cel",
        "write `plugin: <name>`: rules are a policy plugin's configuration",
    ),
    (
        "secret",
        "delete it: this host accepts no secrets as inputs",
    ),
    ("signed_by", "delete it and pin the component by `digest`"),
    ("signature", "delete it and pin the download by `checksum`"),
    ("user", "delete it: processes run as the agent's user"),
    ("unit", "delete it and write `command` and `args`"),
    (
        "<<",
        "merge keys are not supported: write the keys out, or use an alias for a whole value",
    ),
];

/// Reports everything in `node` that the schema does not allow.
pub(super) fn check(source: &Source, node: &Node, schema: &Value) -> Vec<Diagnostic> {
    let mut walk = Walk {
        source,
        root: schema,
        patterns: BTreeMap::new(),
        found: Vec::new(),
    };
    walk.value(
        node,
        schema,
        &Path::default(),
        Place {
            end: node.place.start + 1,
            ..node.place
        },
    );
    walk.found
}

struct Walk<'a> {
    source: &'a Source,
    root: &'a Value,
    patterns: BTreeMap<&'a str, Option<Regex>>,
    found: Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    /// `key_place` is the place to report when a value is missing or spans lines.
    fn value(&mut self, node: &Node, schema: &'a Value, path: &Path, key_place: Place) {
        let schema = self.resolve(schema);
        let Some(rules) = schema.as_object() else {
            return;
        };
        if matches!(node.kind, Kind::Null) && allows_null(rules) {
            return;
        }
        if let Some(inner) = optional_inner(rules) {
            return self.value(node, inner, path, key_place);
        }
        if let Some(allowed) = allowed_texts(rules) {
            return self.choice(node, &allowed, path, key_place);
        }
        match (type_of(rules), &node.kind) {
            (None, _) => {}
            (Some("object"), Kind::Map(entries)) => self.object(entries, rules, path, key_place),
            (Some("array"), Kind::List(items)) => self.array(items, rules, path, key_place),
            (Some("string"), Kind::Text(text)) => self.text(text, rules, node.place, path),
            (Some("boolean"), Kind::Bool(_)) => {}
            (Some(kind @ ("integer" | "number")), Kind::Number(number))
                if kind == "number" || !number.is_f64() =>
            {
                self.range(number.as_f64(), rules, node.place, path);
            }
            (Some(_), _) => self.wrong_type(node, &expects(rules), path, key_place),
        }
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        // References of generated schemas contain no cycles.
        for _ in 0..8 {
            let name = schema
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.strip_prefix("#/$defs/"));
            match name.and_then(|name| self.root.get("$defs")?.get(name)) {
                Some(definition) => schema = definition,
                None => break,
            }
        }
        schema
    }

    fn report(&mut self, place: Place, path: &Path, message: String, mend: String) {
        self.found
            .push(self.source.mistake(place, path, message, mend));
    }

    fn wrong_type(&mut self, node: &Node, expected: &str, path: &Path, key_place: Place) {
        let place = match node.kind {
            Kind::Null | Kind::List(_) | Kind::Map(_) => key_place,
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => node.place,
        };
        let mend = match &node.kind {
            Kind::Number(value) if expected == "text" => format!("put it in quotes: `\"{value}\"`"),
            Kind::Bool(value) if expected == "text" => format!("put it in quotes: `\"{value}\"`"),
            _ => format!("write {expected}"),
        };
        self.report(
            place,
            path,
            format!("expected {expected}, found {}", found(node)),
            mend,
        );
    }

    fn choice(&mut self, node: &Node, allowed: &[&str], path: &Path, key_place: Place) {
        let list: Vec<String> = allowed.iter().map(|text| format!("`{text}`")).collect();
        match &node.kind {
            Kind::Text(text) if allowed.contains(&text.as_str()) => {}
            Kind::Text(text) => {
                let mend = match allowed {
                    [only] => format!("write `\"{only}\"`"),
                    _ => did_you_mean(text, "value", allowed.iter().copied()),
                };
                let message = format!("`{}` is not one of {}", short(text), list.join(", "));
                self.report(node.place, path, message, mend);
            }
            Kind::Number(_) if allowed.len() == 1 => {
                let message = format!("expected the text {}, found {}", list[0], found(node));
                let mend = format!("put it in quotes: `\"{}\"`", allowed[0]);
                self.report(node.place, path, message, mend);
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::List(_) | Kind::Map(_) => {
                self.wrong_type(
                    node,
                    &format!("one of {}", list.join(", ")),
                    path,
                    key_place,
                );
            }
        }
    }

    fn text(&mut self, text: &str, rules: &'a Map<String, Value>, place: Place, path: &Path) {
        let Some(pattern) = rules.get("pattern").and_then(Value::as_str) else {
            return;
        };
        let regex = self
            .patterns
            .entry(pattern)
            .or_insert_with(|| Regex::new(pattern).ok());
        if regex.as_ref().is_some_and(|regex| !regex.is_match(text)) {
            let expected = expects(rules);
            let message = format!("`{}` is not {expected}", short(text));
            self.report(place, path, message, format!("write {expected}"));
        }
    }

    fn range(&mut self, value: Option<f64>, rules: &Map<String, Value>, place: Place, path: &Path) {
        let bound = |key: &str| rules.get(key).and_then(Value::as_f64);
        let (low, high) = (bound("minimum"), bound("maximum"));
        let Some(value) = value else { return };
        if low.is_some_and(|low| value < low) || high.is_some_and(|high| value > high) {
            let expected = expects(rules);
            let message = format!("{value} is out of range: expected {expected}");
            self.report(place, path, message, format!("write {expected}"));
        }
    }

    fn array(&mut self, items: &[Node], rules: &'a Map<String, Value>, path: &Path, key: Place) {
        let least = rules.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            let mend = format!("add at least {least}");
            self.report(key, path, "the list is empty".to_owned(), mend);
        }
        if let Some(schema) = rules.get("items") {
            for (index, item) in items.iter().enumerate() {
                let place = Place {
                    end: item.place.start + 1,
                    ..item.place
                };
                self.value(item, schema, &path.at(index), place);
            }
        }
    }

    fn object(&mut self, entries: &[Entry], rules: &'a Map<String, Value>, path: &Path, at: Place) {
        let mut layers = vec![rules];
        match self.variant(entries, rules) {
            Variant::None => {}
            Variant::Chosen(branch) => layers.push(branch),
            Variant::Unknown(names) => return self.unknown_variant(entries, &names, path, at),
        }
        let known: Vec<(&str, &'a Value)> = layers
            .iter()
            .filter_map(|layer| layer.get("properties")?.as_object())
            .flat_map(|properties| {
                properties
                    .iter()
                    .map(|(key, schema)| (key.as_str(), schema))
            })
            .collect();
        let closed = layers.iter().any(|layer| is_closed(layer));
        let others = rules
            .get("additionalProperties")
            .filter(|schema| schema.is_object());
        let mut meant = Vec::new();
        for entry in entries {
            let path = path.at(&entry.key);
            let of_key = known.iter().rev().find(|(key, _)| *key == entry.key);
            match (of_key.map(|(_, schema)| *schema).or(others), closed) {
                (Some(schema), _) => self.value(&entry.value, schema, &path, entry.key_place),
                (None, true) => meant.extend(self.unknown_key(entry, &known, &path)),
                (None, false) => {}
            }
        }
        let required = layers
            .iter()
            .filter_map(|layer| layer.get("required")?.as_array())
            .flatten();
        for key in required.filter_map(Value::as_str) {
            // A misspelt key is not missing as well.
            if !entries.iter().any(|entry| entry.key == key) && !meant.contains(&key) {
                let schema = known
                    .iter()
                    .rev()
                    .find(|(name, _)| *name == key)
                    .map(|(_, s)| *s);
                self.missing(key, schema, path, at);
            }
        }
    }

    /// The branch of a tagged enum that the document's `type` selects.
    fn variant(&self, entries: &[Entry], rules: &'a Map<String, Value>) -> Variant<'a> {
        let Some(branches) = rules.get("oneOf").and_then(Value::as_array) else {
            return Variant::None;
        };
        let tag = entries
            .iter()
            .find(|entry| entry.key == "type")
            .map(|entry| &entry.value.kind);
        let mut names = Vec::new();
        for branch in branches
            .iter()
            .filter_map(|branch| self.resolve(branch).as_object())
        {
            let name = branch
                .get("properties")
                .and_then(|p| p.get("type")?.get("const")?.as_str());
            let Some(name) = name else { continue };
            if matches!(tag, Some(Kind::Text(text)) if text == name) {
                return Variant::Chosen(branch);
            }
            names.push(name);
        }
        Variant::Unknown(names)
    }

    fn unknown_variant(&mut self, entries: &[Entry], names: &[&str], path: &Path, at: Place) {
        if let Some(entry) = entries.iter().find(|entry| entry.key == "type") {
            return self.choice(&entry.value, names, &path.at("type"), entry.key_place);
        }
        let mend = format!("add `type:` with one of `{}`", names.join("`, `"));
        self.report(at, path, "`type` is missing".to_owned(), mend);
    }

    /// Reports an unknown key; returns the key that was probably meant.
    fn unknown_key(
        &mut self,
        entry: &Entry,
        known: &[(&'a str, &Value)],
        path: &Path,
    ) -> Option<&'a str> {
        let later = NOT_YET.iter().find(|(key, _)| *key == entry.key);
        let names: Vec<&'a str> = known.iter().map(|(key, _)| *key).collect();
        let mend = match later {
            Some((_, mend)) => (*mend).to_owned(),
            None => did_you_mean(&entry.key, "key", names.iter().copied()),
        };
        let message = format!("unknown key `{}`", short(&entry.key));
        self.report(entry.key_place, path, message, mend);
        nearest(&entry.key, &names)
    }

    fn missing(&mut self, key: &str, schema: Option<&'a Value>, path: &Path, at: Place) {
        let rules = schema.and_then(|schema| self.resolve(schema).as_object());
        let mend = match rules {
            Some(rules) => match allowed_texts(rules) {
                Some(allowed) if allowed.len() == 1 => format!("add `{key}: \"{}\"`", allowed[0]),
                Some(allowed) => format!("add `{key}:` with one of `{}`", allowed.join("`, `")),
                None => format!("add `{key}:` with {}", expects(rules)),
            },
            None => format!("add `{key}:`"),
        };
        self.report(at, path, format!("`{key}` is missing"), mend);
    }
}

/// What the `type` of a tagged enum selects.
enum Variant<'a> {
    /// Not a tagged enum.
    None,
    Chosen(&'a Map<String, Value>),
    /// An unknown variant; the list has the existing ones.
    Unknown(Vec<&'a str>),
}
