//! Why a call could not be answered.

pub use crate::bindings::shared::bellwether::types::failures::{BadField, Failure};

impl Failure {
    /// A field of the configuration that can't be used: its JSON pointer, and what would be right.
    pub fn bad_config(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadConfig(BadField {
            path: path.into(),
            reason: reason.into(),
        })
    }

    /// Something outside did not answer, or not in the way its protocol says.
    pub fn upstream(what: impl Into<String>) -> Self {
        Self::Upstream(what.into())
    }

    /// Anything else that trying again would not mend.
    pub fn other(what: impl Into<String>) -> Self {
        Self::Other(what.into())
    }
}
