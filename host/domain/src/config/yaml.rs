//! Parses the text of a file into its tree.
//!
//! Only the YAML that configuration needs: text keys, one document, no tags; a budget for anchors stops alias bombs.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};
use serde_json::Number;

use super::diagnostics::{Diagnostic, Path, Source};
use super::tree::{Entry, Kind, Node, Place};

/// The maximum of values in one file; aliases count where they are used.
const VALUES_MAX: usize = 50_000;
/// The maximum nesting of lists and mappings.
const DEPTH_MAX: usize = 64;

/// Parses a document. A text that is not YAML gives one mistake; repeated keys give one each besides the tree.
pub(super) fn parse(source: &Source) -> Result<(Node, Vec<Diagnostic>), Box<Diagnostic>> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(&source.text) {
        let (event, span) = event.map_err(|error| Box::new(not_yaml(source, &error)))?;
        builder.take(event, span.into())?;
    }
    match builder.root {
        Some(root) => Ok((root, builder.mistakes)),
        None => Err(Box::new(empty(source))),
    }
}

fn empty(source: &Source) -> Diagnostic {
    let mend = "start with `schema_version: \"1.0\"`, or delete the file";
    source.mistake(Place::START, &Path::default(), "the file is empty", mend)
}

fn not_yaml(source: &Source, error: &ScanError) -> Diagnostic {
    let mark = error.marker();
    let place = Place {
        line: mark.line().max(1),
        column: mark.col() + 1,
        start: mark.index(),
        end: mark.index() + 1,
    };
    // The scanner may notice a tab only on the next line.
    let tabbed = [place.line, place.line - 1].into_iter().find_map(|number| {
        let line = source.text.lines().nth(number.checked_sub(1)?)?;
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let column = indent.chars().position(|c| c == '\t')? + 1;
        Some(Place {
            line: number,
            column,
            start: 0,
            end: 1,
        })
    });
    match tabbed {
        Some(place) => {
            let message = "the indentation contains a tab, which YAML does not allow";
            source.mistake(place, &Path::default(), message, "indent with two spaces")
        }
        None => source.mistake(
            place,
            &Path::default(),
            format!("this is not YAML: {}", error.info()),
            "check the indentation, quotes and brackets here and on the line before",
        ),
    }
}

/// A list or mapping that is still open.
enum Open {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
    },
    Map {
        place: Place,
        anchor: usize,
        entries: Vec<Entry>,
        key: Option<(String, Place)>,
    },
}

struct Builder<'a> {
    source: &'a Source,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    root: Option<Node>,
    documents: usize,
    mistakes: Vec<Diagnostic>,
}

impl<'a> Builder<'a> {
    fn new(source: &'a Source) -> Self {
        Self {
            source,
            open: Vec::new(),
            anchors: HashMap::new(),
            values: 0,
            root: None,
            documents: 0,
            mistakes: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Box<Diagnostic>> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.begin_document(place),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                let kind = match style {
                    ScalarStyle::Plain => resolve(&text),
                    ScalarStyle::SingleQuoted
                    | ScalarStyle::DoubleQuoted
                    | ScalarStyle::Literal
                    | ScalarStyle::Folded => Kind::Text(text.into_owned()),
                };
                self.add(Node { place, kind }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                self.enter(
                    Open::List {
                        place,
                        anchor,
                        items: Vec::new(),
                    },
                    place,
                )
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place)?;
                self.enter(
                    Open::Map {
                        place,
                        anchor,
                        entries: Vec::new(),
                        key: None,
                    },
                    place,
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.leave(),
        }
    }

    fn stop(&self, place: Place, message: &str, mend: &str) -> Box<Diagnostic> {
        let top = Path::default();
        Box::new(self.source.mistake(place, &top, message, mend))
    }

    fn begin_document(&mut self, place: Place) -> Result<(), Box<Diagnostic>> {
        self.documents += 1;
        if self.documents > 1 {
            let mend = "put each document into its own file and delete the `---`";
            return Err(self.stop(place, "the file contains a second document", mend));
        }
        Ok(())
    }

    fn refuse_tag(&self, tagged: bool, place: Place) -> Result<(), Box<Diagnostic>> {
        if tagged {
            let mend = "delete the tag; put a text that looks like a number in quotes";
            return Err(self.stop(place, "YAML tags (`!…`) are not supported", mend));
        }
        Ok(())
    }

    fn enter(&mut self, open: Open, place: Place) -> Result<(), Box<Diagnostic>> {
        if self.open.len() >= DEPTH_MAX {
            let message =
                format!("lists and mappings are nested more than {DEPTH_MAX} levels deep");
            return Err(self.stop(place, &message, "reduce the nesting"));
        }
        self.open.push(open);
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Box<Diagnostic>> {
        match self.open.pop() {
            Some(Open::List {
                place,
                anchor,
                items,
            }) => self.add(
                Node {
                    place,
                    kind: Kind::List(items),
                },
                anchor,
            ),
            Some(Open::Map {
                place,
                anchor,
                entries,
                ..
            }) => self.add(
                Node {
                    place,
                    kind: Kind::Map(entries),
                },
                anchor,
            ),
            None => Ok(()),
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Box<Diagnostic>> {
        let Some(node) = self.anchors.get(&anchor) else {
            let mend = "write the value out; an anchor can't contain itself";
            return Err(self.stop(place, "the alias has no anchor", mend));
        };
        let size = node.size();
        if self.values + size > VALUES_MAX {
            return Err(self.too_many(place));
        }
        self.values += size;
        let node = node.clone();
        self.add(node, 0)
    }

    fn too_many(&self, place: Place) -> Box<Diagnostic> {
        let message =
            format!("the file has more than {VALUES_MAX} values, including those of aliases");
        self.stop(place, &message, "use fewer aliases, or split the file")
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Box<Diagnostic>> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(self.too_many(node.place));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => {
                self.root.get_or_insert(node);
                Ok(())
            }
            Some(Open::List { items, .. }) => {
                items.push(node);
                Ok(())
            }
            Some(Open::Map { .. }) => self.add_to_map(node),
        }
    }

    /// Adds keys and values alternately.
    fn add_to_map(&mut self, node: Node) -> Result<(), Box<Diagnostic>> {
        let path = self.path();
        let Some(Open::Map { entries, key, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        if let Some((key, key_place)) = key.take() {
            let earlier = entries.iter().find(|entry| entry.key == key);
            if let Some(earlier) = earlier {
                let message = format!("`{key}` occurs twice");
                let mend = format!(
                    "delete one of them; the first is on line {}",
                    earlier.key_place.line
                );
                let path = path.at(&key);
                self.mistakes
                    .push(self.source.mistake(key_place, &path, message, mend));
            } else {
                entries.push(Entry {
                    key,
                    key_place,
                    value: node,
                });
            }
            return Ok(());
        }
        let place = node.place;
        let text = match node.kind {
            Kind::Text(text) => text,
            Kind::Number(number) => number.to_string(),
            Kind::Bool(value) => value.to_string(),
            Kind::Null => "null".to_owned(),
            Kind::List(_) | Kind::Map(_) => {
                let mend = "use a plain word as the key, or put a text with brackets in quotes";
                return Err(self.stop(place, "a key must not be a list or mapping", mend));
            }
        };
        *key = Some((text, place));
        Ok(())
    }

    /// The path of the innermost open list or mapping.
    fn path(&self) -> Path {
        let outer = self.open.len().saturating_sub(1);
        self.open[..outer]
            .iter()
            .fold(Path::default(), |path, open| match open {
                Open::List { items, .. } => path.at(items.len()),
                Open::Map {
                    key: Some((key, _)),
                    ..
                } => path.at(key),
                Open::Map { key: None, .. } => path,
            })
    }
}

/// Resolves a plain scalar by the core schema of YAML 1.2; numbers that JSON can't represent stay text.
fn resolve(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let begins_like_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if !begins_like_number || leading_zero {
        return Kind::Text(text.to_owned());
    }
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let number = if digits.bytes().all(|b| b.is_ascii_digit()) {
        unsigned
            .parse::<i64>()
            .map(Number::from)
            .or_else(|_| unsigned.parse::<u64>().map(Number::from))
            .ok()
    } else {
        unsigned.parse::<f64>().ok().and_then(Number::from_f64)
    };
    number.map_or_else(|| Kind::Text(text.to_owned()), Kind::Number)
}
