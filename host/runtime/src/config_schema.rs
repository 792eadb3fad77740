//! Validates a plugin's configuration by the JSON Schema that the plugin exports, before the plugin receives it.

use serde_json::Value;

use crate::error::PluginError;

/// Validates a configuration; the error names the path of the first invalid field.
pub(crate) fn check(schema: &str, config: &Value) -> Result<(), PluginError> {
    let unusable = |reason: String| PluginError::BadDescription {
        reason: format!("its `config-schema` is invalid: {reason}"),
    };
    let schema: Value =
        serde_json::from_str(schema).map_err(|error| unusable(error.to_string()))?;
    let validator = jsonschema::draft202012::options()
        // A schema is untrusted, so its patterns must have bounded run time.
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(&schema)
        .map_err(|error| unusable(error.to_string()))?;
    match validator.iter_errors(config).next() {
        Some(error) => Err(PluginError::BadConfig {
            path: error.instance_path().to_string(),
            reason: error.to_string(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::check;

    const SCHEMA: &str = r#"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": { "stall": { "type": "object", "properties": { "after_s": { "type": "integer", "minimum": 1 } } } },
        "additionalProperties": false
    }"#;

    fn text(config: Value) -> String {
        check(SCHEMA, &config).unwrap_err().to_string()
    }

    #[test]
    fn a_configuration_that_fits_passes() {
        check(SCHEMA, &json!({"stall": {"after_s": 30}})).unwrap();
        check(SCHEMA, &json!({})).unwrap();
    }

    #[test]
    fn a_misfit_names_its_path() {
        assert_eq!(
            text(json!({"stall": {"after_s": 0}})),
            "the configuration at `/stall/after_s` is invalid: 0 is less than the minimum of 1"
        );
        assert!(text(json!({"stal": {}})).contains("'stal' was unexpected"));
    }

    #[test]
    fn a_schema_that_is_none_is_the_plugins_fault() {
        assert_eq!(
            check("nonsense", &json!({})).unwrap_err().code(),
            "plugin_bad_description"
        );
        assert_eq!(
            check(r#"{"type": "nothing"}"#, &json!({}))
                .unwrap_err()
                .code(),
            "plugin_bad_description"
        );
        let remote = r#"{"$ref": "https://example.com/schema.json"}"#;
        assert_eq!(
            check(remote, &json!({})).unwrap_err().code(),
            "plugin_bad_description",
            "nothing is fetched"
        );
    }
}
