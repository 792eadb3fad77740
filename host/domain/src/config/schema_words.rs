//! Describes the rules of a generated JSON Schema in words.

use serde_json::{Map, Value};

use super::tree::{Kind, Node};

/// Whether unlisted keys are errors.
pub(super) fn is_closed(rules: &Map<String, Value>) -> bool {
    ["additionalProperties", "unevaluatedProperties"]
        .iter()
        .any(|key| rules.get(*key) == Some(&Value::Bool(false)))
}

/// Whether the value may be left empty.
pub(super) fn allows_null(rules: &Map<String, Value>) -> bool {
    let null = |schema: &Value| schema.get("type").and_then(Value::as_str) == Some("null");
    match rules.get("type") {
        Some(Value::Array(types)) => types.iter().any(|name| name == "null"),
        _ => rules
            .get("anyOf")
            .and_then(Value::as_array)
            .is_some_and(|any| any.iter().any(null)),
    }
}

/// The schema inside `anyOf: [schema, null]`.
pub(super) fn optional_inner(rules: &Map<String, Value>) -> Option<&Value> {
    let any = rules.get("anyOf")?.as_array()?;
    any.iter()
        .find(|schema| schema.get("type").and_then(Value::as_str) != Some("null"))
}

/// The values of an enum, written as `enum`, `const` or a `oneOf` of constants.
pub(super) fn allowed_texts(rules: &Map<String, Value>) -> Option<Vec<&str>> {
    if let Some(values) = rules.get("enum").and_then(Value::as_array) {
        return Some(values.iter().filter_map(Value::as_str).collect());
    }
    if let Some(value) = rules.get("const").and_then(Value::as_str) {
        return Some(vec![value]);
    }
    let branches = rules.get("oneOf")?.as_array()?;
    branches
        .iter()
        .map(|branch| branch.get("const")?.as_str())
        .collect()
}

/// The type, ignoring null.
pub(super) fn type_of(rules: &Map<String, Value>) -> Option<&str> {
    match rules.get("type")? {
        Value::String(name) => Some(name),
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null"),
        _ => None,
    }
}

/// What a schema expects, in words.
pub(super) fn expects(rules: &Map<String, Value>) -> String {
    if let Some(text) = rules.get("x-expects").and_then(Value::as_str) {
        return text.to_owned();
    }
    let bound = |key: &str| rules.get(key).and_then(Value::as_f64);
    match type_of(rules) {
        Some("object") => "a mapping".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("string") => "text".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer" | "number") => match (bound("minimum"), bound("maximum")) {
            (Some(low), Some(high)) => format!("a whole number from {low} to {high}"),
            (Some(low), None) => format!("a whole number of at least {low}"),
            (None, Some(high)) => format!("a whole number of at most {high}"),
            (None, None) => "a whole number".to_owned(),
        },
        _ => "a value".to_owned(),
    }
}

/// What the file contains, in words.
pub(super) fn found(node: &Node) -> String {
    match &node.kind {
        Kind::Null => "nothing".to_owned(),
        Kind::Bool(value) => format!("`{value}`"),
        Kind::Number(value) => format!("the number {value}"),
        Kind::Text(text) => format!("the text `{}`", short(text)),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
    }
}

/// A text for a message, shortened to one line.
pub(super) fn short(text: &str) -> String {
    let line: String = text
        .chars()
        .take(60)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() < text.len() {
        format!("{line}…")
    } else {
        line
    }
}
