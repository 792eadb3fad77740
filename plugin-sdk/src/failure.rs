//! Constructors for the failures of a call.

pub use crate::bindings::shared::bellwether::types::failures::{BadField, Failure};

impl Failure {
    /// An invalid field of the configuration: its JSON pointer, and how to fix it.
    pub fn bad_config(path: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::BadConfig(BadField {
            path: path.into(),
            reason: reason.into(),
        })
    }

    /// An external service that did not answer or violated its protocol.
    pub fn upstream(what: impl Into<String>) -> Self {
        Self::Upstream(what.into())
    }

    /// Any other failure that a retry does not fix.
    pub fn other(what: impl Into<String>) -> Self {
        Self::Other(what.into())
    }
}
