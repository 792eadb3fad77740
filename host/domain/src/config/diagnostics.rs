//! Diagnostics: what is wrong in which place of a file, and how to fix it.
//!
//! People read these in a terminal, an editor or an incident, so each is complete: file, line, column, path, the line
//! itself and the fix.

use std::fmt;

use super::tree::Place;

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, relative to the folder of chain configurations.
    pub file: String,
    /// Line, from 1; 0 when the diagnostic concerns the whole file.
    pub line: usize,
    /// Column in characters, from 1; 0 when the diagnostic concerns the whole file.
    pub column: usize,
    /// The path in the document, such as `steps[1].with.url`; empty for the whole document.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub mend: String,
    /// The line's text; empty when the diagnostic concerns the whole file.
    pub excerpt: String,
    /// How many characters of the line are marked.
    pub width: usize,
}

impl Diagnostic {
    /// A mistake that concerns the whole file.
    pub fn of_file(file: &str, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            message: message.into(),
            mend: mend.into(),
            excerpt: String::new(),
            width: 0,
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": ")?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        writeln!(f, "{}", self.message)?;
        if self.line > 0 {
            let number = self.line.to_string();
            let gutter = " ".repeat(number.len());
            let before = " ".repeat(self.column.saturating_sub(1));
            writeln!(f, "{gutter} |")?;
            writeln!(f, "{number} | {}", self.excerpt)?;
            writeln!(f, "{gutter} | {before}{}", "^".repeat(self.width.max(1)))?;
        }
        write!(f, "  = {}", self.mend)
    }
}

/// All mistakes of a folder, ordered by file, line and column, and never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{diagnostic}\n")?;
        }
        let count = self.0.len();
        write!(f, "{count} mistake{}", if count == 1 { "" } else { "s" })
    }
}

/// The text of a file, which makes diagnostics of places in it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) file: String,
    pub(super) text: String,
}

/// The maximum length of an excerpt.
const EXCERPT_CHARS_MAX: usize = 160;

impl Source {
    /// A mistake at a place in this file.
    pub(super) fn mistake(
        &self,
        place: Place,
        path: &Path,
        message: impl Into<String>,
        mend: impl Into<String>,
    ) -> Diagnostic {
        let line = self
            .text
            .lines()
            .nth(place.line.saturating_sub(1))
            .unwrap_or_default();
        let excerpt: String = line.chars().take(EXCERPT_CHARS_MAX).map(plain).collect();
        let room = excerpt.chars().count().saturating_sub(place.column - 1);
        Diagnostic {
            file: self.file.clone(),
            line: place.line,
            column: place.column,
            path: path.to_string(),
            message: message.into(),
            mend: mend.into(),
            excerpt,
            width: place.width().clamp(1, room.max(1)),
        }
    }

    /// The place of `needle` within `place`, or `place` itself when the file writes it differently.
    pub(super) fn narrow(&self, place: Place, needle: &str) -> Place {
        let within: String = self
            .text
            .chars()
            .skip(place.start)
            .take(place.end.saturating_sub(place.start))
            .collect();
        let Some(at) = within.find(needle) else {
            return place;
        };
        let before = &within[..at];
        let newlines = before.matches('\n').count();
        let column = match before.rfind('\n') {
            Some(newline) => before[newline + 1..].chars().count() + 1,
            None => place.column + before.chars().count(),
        };
        let start = place.start + before.chars().count();
        Place {
            line: place.line + newlines,
            column,
            start,
            end: start + needle.chars().count(),
        }
    }
}

/// Replaces control characters, which would garble a terminal, and tabs, which would move the caret.
fn plain(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// A path in a document: `steps[1].with.url`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(Vec<Segment>);

/// One part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<&String> for Segment {
    fn from(key: &String) -> Self {
        Self::Key(key.clone())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Path {
    /// This path with one more part.
    pub(super) fn at(&self, segment: impl Into<Segment>) -> Self {
        let mut longer = self.0.clone();
        longer.push(segment.into());
        Self(longer)
    }

    /// The parts.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    let key: String = key.chars().take(80).map(plain).collect();
                    write!(f, "{}{key}", if position == 0 { "" } else { "." })?;
                }
            }
        }
        Ok(())
    }
}

/// The name with the smallest edit distance, if it is close enough.
pub(super) fn nearest<'a>(written: &str, names: &[&'a str]) -> Option<&'a str> {
    let near = names
        .iter()
        .map(|name| (distance(written, name), *name))
        .filter(|(far, name)| *far <= 1 + name.chars().count() / 3)
        .min();
    near.map(|(_, name)| name)
}

/// Suggests the closest name, or lists all names.
pub(super) fn did_you_mean<'a>(
    written: &str,
    what: &str,
    names: impl Iterator<Item = &'a str>,
) -> String {
    let names: Vec<&str> = names.collect();
    if let Some(name) = nearest(written, &names) {
        return format!("did you mean `{name}`?");
    }
    match names.as_slice() {
        [] => format!("no {what} is declared; declare one first"),
        names => {
            let list: Vec<String> = names
                .iter()
                .take(20)
                .map(|name| format!("`{name}`"))
                .collect();
            let more = if names.len() > 20 { ", …" } else { "" };
            format!("choose a {what} that exists: {}{more}", list.join(", "))
        }
    }
}

/// The edit distance: characters added, dropped or replaced, or two neighbours swapped. Long texts count as far
/// apart.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    if left.len() > 64 || right.len() > 64 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for i in 1..=left.len() {
        let mut row = vec![i];
        for j in 1..=right.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(left[i - 1] != right[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let is_swap =
                i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1];
            if is_swap {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_offered_and_far_ones_listed() {
        let names = || ["rpc", "p2p", "metrics"].into_iter();
        assert_eq!(did_you_mean("rcp", "port", names()), "did you mean `rpc`?");
        assert_eq!(
            did_you_mean("metric", "port", names()),
            "did you mean `metrics`?"
        );
        assert_eq!(
            did_you_mean("websocket", "port", names()),
            "choose a port that exists: `rpc`, `p2p`, `metrics`"
        );
        assert_eq!(
            did_you_mean("x", "port", [].into_iter()),
            "no port is declared; declare one first"
        );
    }
}
