//! YAML values with their places in the file.
//!
//! One parser determines both a value and its place, so that an error always points at the right place.

use saphyr_parser::Span;
use serde_json::{Map, Number, Value};

use super::diagnostics::{Path, Segment};

/// The place of a value: line and column from 1, and the range in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Place {
    /// The first character of a file.
    pub(super) const START: Self = Self {
        line: 1,
        column: 1,
        start: 0,
        end: 1,
    };

    /// Characters from start to end.
    pub(super) fn width(self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

impl From<Span> for Place {
    fn from(span: Span) -> Self {
        let (start, end) = (span.start, span.end);
        Self {
            line: start.line(),
            column: start.col() + 1,
            start: start.index(),
            end: end.index(),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) value: Node,
}

impl Node {
    /// The value under a key.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) | Kind::List(_) => None,
        }
    }

    /// The value at a path.
    pub(super) fn node_at(&self, path: &Path) -> Option<&Self> {
        path.segments()
            .iter()
            .try_fold(self, |node, segment| match (segment, &node.kind) {
                (Segment::Key(key), _) => node.entry(key).map(|entry| &entry.value),
                (Segment::Index(index), Kind::List(items)) => items.get(*index),
                (Segment::Index(_), _) => None,
            })
    }

    /// The place of the value at a path, or of its nearest ancestor.
    pub(super) fn place_of(&self, path: &Path) -> Place {
        self.walk(path).1
    }

    /// The place of the key at a path, or of the list entry.
    pub(super) fn key_place_of(&self, path: &Path) -> Place {
        self.walk(path).0
    }

    fn walk(&self, path: &Path) -> (Place, Place) {
        let (mut node, mut key_place) = (self, self.place);
        for segment in path.segments() {
            let next = match (segment, &node.kind) {
                (Segment::Key(key), _) => {
                    node.entry(key).map(|entry| (&entry.value, entry.key_place))
                }
                (Segment::Index(index), Kind::List(items)) => {
                    items.get(*index).map(|item| (item, item.place))
                }
                (Segment::Index(_), _) => None,
            };
            let Some((inner, place)) = next else { break };
            (node, key_place) = (inner, place);
        }
        // A report on a list or mapping points at its key, because the value spans many lines.
        match node.kind {
            Kind::List(_) | Kind::Map(_) | Kind::Null => (key_place, key_place),
            Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => (key_place, node.place),
        }
    }

    /// The value without places.
    pub(super) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(value) => Value::Number(value.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.to_json()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The number of values in this one, including itself.
    pub(super) fn size(&self) -> usize {
        match &self.kind {
            Kind::List(items) => 1 + items.iter().map(Self::size).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|e| 1 + e.value.size()).sum::<usize>(),
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => 1,
        }
    }
}
