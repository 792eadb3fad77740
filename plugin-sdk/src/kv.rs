//! A small store whose content survives calls, private to the plugin and the node.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::shared::bellwether::host::kv;

/// The bytes under a key.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Failure> {
    kv::get(key)
}

/// Stores bytes under a key.
pub fn set(key: &str, value: &[u8]) -> Result<(), Failure> {
    kv::set(key, value)
}

/// Deletes a key.
pub fn delete(key: &str) -> Result<(), Failure> {
    kv::delete(key)
}

/// The value under a key; `None` if it is not a valid `T`.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    Ok(get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Stores a value under a key.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(value).map_err(|error| {
        Failure::other(format!(
            "the value of `{key}` can't be encoded as JSON: {error}"
        ))
    })?;
    set(key, &bytes)
}
