//! The caller in JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Me)]
pub struct MeView {
    /// The key's name.
    pub name: String,
    /// What the key may do; `admin` means everything.
    pub scopes: Vec<String>,
}
