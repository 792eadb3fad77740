//! Lists in pages: the items, and the cursor of the next page, which only the host can read.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PageView<T> {
    /// The items, in a stable order.
    pub items: Vec<T>,
    /// `cursor` of the next part; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> PageView<T> {
    /// A list that is short by nature and has one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

/// Which part of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PartQuery {
    /// At most so many items, 1 to 200; 50 when absent.
    pub limit: Option<u32>,
    /// `next` of the part before.
    pub cursor: Option<String>,
}

impl PartQuery {
    /// The names of the parameters.
    pub const NAMES: [&str; 2] = ["limit", "cursor"];
}
