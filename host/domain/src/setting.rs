//! A mistake in the host's configuration, named by its key.

/// A configuration key with an invalid value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration key `{key}`: {message}; docs/configuration.md lists every key")]
pub struct SettingError {
    /// The key with its sections, such as `http.listen`.
    pub key: String,
    /// What is wrong with the value, and which values are valid.
    pub message: String,
}

impl SettingError {
    /// An error at `key`.
    pub fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}
