//! What wraps data keys: the one thing that has to be kept apart from the database.
//!
//! Its key never leaves it. It has versions, each with an id; the newest wraps, and all that it still holds unwrap.

use async_trait::async_trait;

use super::KeyError;
use super::envelope::{DataKey, SealScope};

/// A data key that one version of a [`Kek`] wrapped.
#[derive(Clone)]
pub(super) struct Wrapped {
    /// The version's id.
    pub(super) kek: String,
    /// What only it opens.
    pub(super) bytes: Vec<u8>,
}

/// A key-encryption-key, wherever it is kept. Every call ends within a bound.
#[async_trait]
pub(super) trait Kek: Send + Sync {
    /// Whether the id is of one of its versions; asks nobody.
    fn is_own(&self, id: &str) -> bool;

    /// The id of the newest version; shows also that it can be used.
    async fn newest(&self) -> Result<String, KeyError>;

    /// Wraps by the newest version.
    async fn wrap(&self, scope: &SealScope<'_>, key: &DataKey) -> Result<Wrapped, KeyError>;

    /// Opens what one of its versions wrapped.
    async fn unwrap(&self, scope: &SealScope<'_>, wrapped: &Wrapped) -> Result<DataKey, KeyError>;

    /// Wraps anew, by the newest version, what one of its versions wrapped.
    async fn rewrap(&self, scope: &SealScope<'_>, wrapped: &Wrapped) -> Result<Wrapped, KeyError> {
        let key = self.unwrap(scope, wrapped).await?;
        self.wrap(scope, &key).await
    }
}
