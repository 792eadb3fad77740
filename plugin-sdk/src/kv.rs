//! Small state that outlives a call, private to the plugin and the node.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::shared::bellwether::host::kv;

/// The bytes under a key.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Failure> {
    kv::get(key)
}

/// Keeps bytes under a key.
pub fn set(key: &str, value: &[u8]) -> Result<(), Failure> {
    kv::set(key, value)
}

/// Forgets a key.
pub fn delete(key: &str) -> Result<(), Failure> {
    kv::delete(key)
}

/// The value under a key; one that can't be read as `T` any more counts as none.
pub fn get_json<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    Ok(get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Keeps a value under a key.
pub fn set_json<T: Serialize>(key: &str, value: &T) -> Result<(), Failure> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Failure::other(format!("the value of {key}: {error}")))?;
    set(key, &bytes)
}
