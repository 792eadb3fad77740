//! What wraps data keys (a key encryption key, KEK), which must be kept apart from the database.
//!
//! Its key never leaves it. It has versions, each with an id; the newest wraps, and all existing ones unwrap.

use async_trait::async_trait;

use super::KeyError;
use super::envelope::{DataKey, SealScope};

/// A data key, wrapped by one version of a [`Kek`].
#[derive(Clone)]
pub(super) struct Wrapped {
    /// The version's id.
    pub(super) kek: String,
    /// The wrapped data key.
    pub(super) bytes: Vec<u8>,
}

/// A key encryption key in any place. Every call has a time limit.
#[async_trait]
pub(super) trait Kek: Send + Sync {
    /// Whether the id belongs to one of its versions; sends no request.
    fn is_own(&self, id: &str) -> bool;

    /// The id of the newest version; also verifies that the KEK works.
    async fn newest(&self) -> Result<String, KeyError>;

    /// Wraps with the newest version.
    async fn wrap(&self, scope: &SealScope<'_>, key: &DataKey) -> Result<Wrapped, KeyError>;

    /// Unwraps what one of its versions wrapped.
    async fn unwrap(&self, scope: &SealScope<'_>, wrapped: &Wrapped) -> Result<DataKey, KeyError>;

    /// Rewraps with the newest version what one of its versions wrapped.
    async fn rewrap(&self, scope: &SealScope<'_>, wrapped: &Wrapped) -> Result<Wrapped, KeyError> {
        let key = self.unwrap(scope, wrapped).await?;
        self.wrap(scope, &key).await
    }
}
