//! Parses server-sent events from the bytes of a stream.

/// Longest line. Bellwether sends no longer one, so the parser drops what exceeds it.
const LINE_MAX: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerEvent {
    /// Its number, when it has one.
    pub(crate) id: Option<String>,
    /// Its kind.
    pub(crate) event: String,
    /// Its data.
    pub(crate) data: String,
}

/// Holds the received part of the next event.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
    event: ServerEvent,
}

impl Parser {
    /// Adds received bytes.
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        if self.bytes.len() + chunk.len() <= LINE_MAX {
            self.bytes.extend_from_slice(chunk);
        } else {
            self.bytes.clear();
        }
    }

    /// The next complete event.
    pub(crate) fn next_event(&mut self) -> Option<ServerEvent> {
        while let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if !event.data.is_empty() {
                    return Some(event);
                }
            } else {
                self.field(line);
            }
        }
        None
    }

    fn field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => self.event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                if !self.event.data.is_empty() {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            // Comments have no name; `retry` is for browsers.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_whole_however_they_are_cut() {
        let text = ": alive\n\nid: 7\nevent: incident\ndata: {\"a\":\ndata: 1}\r\n\r\nretry: 5\n\ndata: x\n\n";
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                parser.push(chunk);
                events.extend(std::iter::from_fn(|| parser.next_event()));
            }
            assert_eq!(events.len(), 2, "chunks of {size}");
            assert_eq!(events[0].id.as_deref(), Some("7"));
            assert_eq!(events[0].event, "incident");
            assert_eq!(events[0].data, "{\"a\":\n1}");
            assert_eq!(events[1].data, "x");
        }
    }
}
