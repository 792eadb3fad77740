//! A plugin's configuration: a serde type, its schema, and errors that name the field.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::{BadField, Failure};

/// The JSON Schema (2020-12) of a configuration.
pub(crate) fn schema<C: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<C>();
    schema.as_value().to_string()
}

/// Parses a configuration block and validates what its schema can't express; an error names the field by its JSON
/// pointer.
pub(crate) fn read<C: DeserializeOwned>(
    json: &str,
    check: impl FnOnce(&C) -> Result<(), BadField>,
) -> Result<C, Failure> {
    let config: C = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json))
        .map_err(|error| Failure::bad_config(pointer(error.path()), error.inner().to_string()))?;
    check(&config).map_err(Failure::BadConfig)?;
    Ok(config)
}

/// A path as JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        let token = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.replace('~', "~0").replace('/', "~1"),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        pointer.push('/');
        pointer.push_str(&token);
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        limits: Vec<Limit>,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    struct Limit {
        #[serde(rename = "a/b")]
        #[expect(dead_code, reason = "only its place in the document matters")]
        value: u32,
    }

    impl Sample {
        fn check(&self) -> Result<(), BadField> {
            if self.limits.is_empty() {
                return Err(BadField {
                    path: "/limits".into(),
                    reason: "needs at least one".into(),
                });
            }
            Ok(())
        }
    }

    fn bad_field(json: &str) -> (String, String) {
        match read(json, Sample::check) {
            Err(Failure::BadConfig(field)) => (field.path, field.reason),
            other => panic!("{json} gave {other:?}"),
        }
    }

    #[test]
    fn errors_name_the_field() {
        let (path, reason) = bad_field(r#"{"limits": [{"a/b": 1}, {"a/b": "x"}]}"#);
        assert_eq!(path, "/limits/1/a~1b");
        assert!(reason.contains("expected u32"), "{reason}");
        let (path, reason) = bad_field(r#"{"limit": []}"#);
        assert_eq!(path, "/limit");
        assert!(reason.contains("unknown field `limit`"), "{reason}");
        assert_eq!(bad_field(r#"{"limits": []}"#).0, "/limits");
        assert_eq!(bad_field("").0, "");
        assert_eq!(
            read(r#"{"limits": [{"a/b": 1}]}"#, Sample::check)
                .unwrap()
                .limits
                .len(),
            1
        );
    }

    #[test]
    fn the_schema_says_its_draft_and_refuses_unknown_keys() {
        let schema: serde_json::Value = serde_json::from_str(&schema::<Sample>()).unwrap();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"][0], "limits");
    }
}
