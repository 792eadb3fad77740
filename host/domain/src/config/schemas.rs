//! The JSON Schemas of the formats, which the loader validates with and editors use.

use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::notifications::NotificationsFile;
use super::observation::ObservationConfig;
use super::profile::Profile;
use super::recipe::Recipe;
use super::runtime::Runtime;

/// Each format's name, which is also the name of its file under `chain-configs/schema/`, and its schema.
pub fn published() -> [(&'static str, &'static Value); 5] {
    [
        ("profile", &PROFILE),
        ("runtime", &RUNTIME),
        ("observation", &OBSERVATION),
        ("recipe", &RECIPE),
        ("notifications", &NOTIFICATIONS),
    ]
}

pub(super) static PROFILE: LazyLock<Value> = LazyLock::new(schema::<Profile>);
pub(super) static RUNTIME: LazyLock<Value> = LazyLock::new(schema::<Runtime>);
pub(super) static OBSERVATION: LazyLock<Value> = LazyLock::new(schema::<ObservationConfig>);
pub(super) static RECIPE: LazyLock<Value> = LazyLock::new(schema::<Recipe>);
pub(super) static NOTIFICATIONS: LazyLock<Value> = LazyLock::new(schema::<NotificationsFile>);

fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}
