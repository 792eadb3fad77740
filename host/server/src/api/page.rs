//! Lists in pages: at most 200 items each, and a cursor that only the host can read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use host_wire::{PageView, PartQuery};

use super::limits::{PAGE_DEFAULT, PAGE_MAX};
use super::problem::Problem;
use crate::ops::{Page, PageRequest};

/// First characters of what a cursor hides; a change of meaning takes another letter.
const CURSOR_MARK: &str = "a:";

/// The page as it is sent.
pub(crate) fn page_view<T, U>(page: Page<U>, view: impl FnMut(U) -> T) -> PageView<T> {
    let next = page
        .next
        .map(|next| URL_SAFE_NO_PAD.encode(format!("{CURSOR_MARK}{next}")));
    PageView {
        items: page.items.into_iter().map(view).collect(),
        next,
    }
}

/// Checks the two parameters that every list has.
pub(crate) fn page(part: &PartQuery) -> Result<PageRequest, Problem> {
    let limit = part.limit.unwrap_or(PAGE_DEFAULT);
    if limit == 0 || limit > PAGE_MAX {
        let detail = format!("`{limit}` is out of range; ask for 1 to {PAGE_MAX} items");
        return Err(Problem::parameter("limit", detail));
    }
    let cursor = part.cursor.as_deref().map(read_cursor).transpose()?;
    Ok(PageRequest { limit, cursor })
}

fn read_cursor(text: &str) -> Result<String, Problem> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let hidden = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let cursor = hidden.and_then(|hidden| hidden.strip_prefix(CURSOR_MARK).map(str::to_owned));
    cursor.ok_or_else(|| {
        let next = "send `next` of the part before as it is, or leave it out to begin at the start";
        Problem::parameter("cursor", format!("is not one of ours; {next}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let sent = Page {
            items: vec![1],
            next: Some("0190/ü".to_owned()),
        };
        let view = page_view(sent, |item| item);
        let part = PartQuery {
            limit: None,
            cursor: view.next,
        };
        let request = page(&part).unwrap();
        assert_eq!(
            request,
            PageRequest {
                limit: 50,
                cursor: Some("0190/ü".to_owned())
            }
        );
    }

    #[test]
    fn limits_and_foreign_cursors_are_refused() {
        for (limit, cursor, name) in [
            (Some(0), None, "limit"),
            (Some(201), None, "limit"),
            (None, Some("!"), "cursor"),
            (None, Some("eDox"), "cursor"),
        ] {
            let cursor = cursor.map(str::to_owned);
            let problem = page(&PartQuery { limit, cursor }).unwrap_err();
            let error = problem.body("").errors.remove(0);
            assert_eq!(error.parameter.as_deref(), Some(name));
        }
    }
}
