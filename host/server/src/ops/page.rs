//! Parts of lists: how many items, and where the next part starts.

use std::str::FromStr;

use super::OpError;

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The items, at most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next part begins; `None` at the end.
    pub next: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// At most so many items, 1 to 200.
    pub limit: u32,
    /// `next` of the part before.
    pub cursor: Option<String>,
}

/// Most items of one part of a list.
pub const PAGE_MAX: u32 = 200;

impl PageRequest {
    /// The key that the cursor stands for.
    pub(crate) fn after<K: FromStr>(&self) -> Result<Option<K>, OpError> {
        let parse = |cursor: &String| {
            cursor.parse().map_err(|_| {
                OpError::invalid(
                    "/cursor",
                    "is not a cursor of this list; omit it to start at the beginning",
                )
            })
        };
        self.cursor.as_ref().map(parse).transpose()
    }

    /// One row more than is shown tells whether there is a next part.
    pub(crate) fn rows(&self) -> u32 {
        self.shown().saturating_add(1)
    }

    fn shown(&self) -> u32 {
        self.limit.clamp(1, PAGE_MAX)
    }
}

impl<T> Page<T> {
    /// Makes a part of the list out of [`PageRequest::rows`] rows.
    pub(crate) fn cut(mut rows: Vec<T>, page: &PageRequest, key: impl Fn(&T) -> String) -> Self {
        let shown = page.shown() as usize;
        let has_more = rows.len() > shown;
        rows.truncate(shown);
        let next = if has_more { rows.last().map(key) } else { None };
        Self { items: rows, next }
    }
}
