//! Every setting of a host, read from the JSON Schema of its configuration structs.

use host_server::config::Config;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

/// One key of the configuration.
pub(super) struct Setting {
    /// The last part of the key.
    pub(super) name: String,
    /// What the value is.
    pub(super) kind: Kind,
    /// The default; `None` where the key is required, `null` where it is optional.
    pub(super) default: Option<Value>,
    /// A value for the example file.
    pub(super) example: Option<Value>,
    /// The doc line of the field.
    pub(super) description: String,
}

/// What the value of a key is.
pub(super) enum Kind {
    /// A value of the named type.
    Value(String),
    /// A section with further keys.
    Section(Vec<Setting>),
    /// A list of sections.
    List(Vec<Setting>),
    /// Sections by a name that the operator chooses, each of one of these kinds.
    Map(Vec<Variant>),
    /// Sections by a name that the operator chooses, each with exactly one of these keys.
    Choice(Vec<Setting>),
}

/// A kind of section, chosen by its key `kind`.
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) settings: Vec<Setting>,
}

/// The top level of the configuration.
pub(super) fn all() -> Vec<Setting> {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let root = generator.into_root_schema_for::<Config>().to_value();
    let schemas = Schemas(root.clone());
    schemas.settings(root.as_object().unwrap())
}

/// The schema of the configuration, which others in it are found by.
struct Schemas(Value);

type Schema = Map<String, Value>;

impl Schemas {
    /// What a schema refers to; `null` as an alternative is left out.
    fn resolved<'a>(&'a self, schema: &'a Schema) -> &'a Schema {
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let found = self.0.pointer(path.trim_start_matches('#'));
            return self.resolved(found.unwrap().as_object().unwrap());
        }
        let alternatives = schema.get("anyOf").and_then(Value::as_array);
        let mut some = alternatives.into_iter().flatten();
        match some.find(|one| one["type"] != "null") {
            Some(one) => self.resolved(one.as_object().unwrap()),
            None => schema,
        }
    }

    fn settings(&self, section: &Schema) -> Vec<Setting> {
        let none = Vec::new();
        let required = section.get("required").and_then(Value::as_array);
        let required = required.unwrap_or(&none);
        let properties = section.get("properties").and_then(Value::as_object);
        let properties = properties.into_iter().flatten();
        let keys = properties.filter(|(_, schema)| schema.get("const").is_none());
        keys.map(|(name, schema)| {
            let is_required = required.iter().any(|one| one == name);
            self.setting(name, is_required, schema.as_object().unwrap())
        })
        .collect()
    }

    fn setting(&self, name: &str, is_required: bool, schema: &Schema) -> Setting {
        let default = schema.get("default").cloned().unwrap_or_default();
        let examples = schema.get("examples").and_then(Value::as_array);
        Setting {
            name: name.to_owned(),
            kind: self.kind(self.resolved(schema)),
            default: (!is_required).then_some(default),
            example: examples.and_then(|all| all.first()).cloned(),
            description: description(schema),
        }
    }

    fn kind(&self, schema: &Schema) -> Kind {
        if let Some(items) = schema.get("items").and_then(Value::as_object) {
            return match self.kind(self.resolved(items)) {
                Kind::Section(settings) => Kind::List(settings),
                _ => Kind::Value("list of strings".to_owned()),
            };
        }
        let by_name = schema.get("additionalProperties");
        if let Some(one) = by_name.and_then(Value::as_object) {
            let one = self.resolved(one);
            return match one.get("oneOf").and_then(Value::as_array) {
                Some(variants) => Kind::Map(variants.iter().map(|one| self.variant(one)).collect()),
                None if one.contains_key("properties") => Kind::Choice(self.settings(one)),
                None => Kind::Value("map of strings".to_owned()),
            };
        }
        if schema.contains_key("properties") {
            return Kind::Section(self.settings(schema));
        }
        Kind::Value(type_name(schema))
    }

    fn variant(&self, schema: &Value) -> Variant {
        let schema = schema.as_object().unwrap();
        let name = schema["properties"]["kind"]["const"].as_str().unwrap();
        Variant {
            name: name.to_owned(),
            description: description(schema),
            settings: match schema.get("$ref") {
                Some(_) => self.settings(self.resolved(schema)),
                None => self.settings(schema),
            },
        }
    }
}

fn description(schema: &Schema) -> String {
    let text = schema.get("description").and_then(Value::as_str);
    text.unwrap_or_default().replace('\n', " ")
}

fn type_name(schema: &Schema) -> String {
    if schema.get("x-secret") == Some(&Value::Bool(true)) {
        return "string, secret".to_owned();
    }
    if let Some(expects) = schema.get("x-expects").and_then(Value::as_str) {
        assert!(expects.starts_with("a duration"), "{expects}");
        return "duration".to_owned();
    }
    let words = schema.get("oneOf").and_then(Value::as_array);
    let words = words.into_iter().flatten().map(|word| &word["const"]);
    let listed = schema.get("enum").and_then(Value::as_array);
    let words: Vec<String> = words
        .chain(listed.into_iter().flatten())
        .filter_map(Value::as_str)
        .map(|word| format!("`{word}`"))
        .collect();
    if !words.is_empty() {
        return words.join(" or ");
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().find(|one| *one != "null").unwrap(),
        one => one,
    };
    let is_url = schema.get("format").is_some_and(|format| format == "uri");
    match types.as_str().unwrap() {
        "string" if is_url => "URL",
        "boolean" => "`true` or `false`",
        "integer" => "number",
        "string" => "string",
        other => panic!("no page names the type {other}"),
    }
    .to_owned()
}
