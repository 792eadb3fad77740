//! `bellwether:host/metrics`: gauges and counters that the host exports under the plugin's name.
//!
//! Every distinct set of labels is a time series somewhere, so a plugin gets a fixed number of them and no more.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use metrics::Label;

use crate::bindings::shared::bellwether::host::log::Level;
use crate::bindings::shared::bellwether::host::metrics::{Host, Tag};
use crate::state::HostState;

/// Time series that one plugin may open.
const SERIES_MAX: usize = 200;
/// Labels of one series beside `plugin` and `name`.
const TAGS_MAX: usize = 8;
/// Bytes of a name, a label's key or its value.
const TEXT_MAX: usize = 128;

/// The series that a plugin has opened so far, as hashes.
#[derive(Debug, Default)]
pub(crate) struct Series(Mutex<HashSet<u64>>);

impl Series {
    /// Whether the series is known or there is still room for it.
    fn admit(&self, name: &str, tags: &[Tag]) -> bool {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        for tag in tags {
            (tag.key.as_str(), tag.value.as_str()).hash(&mut hasher);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = hasher.finish();
        known.contains(&key) || (known.len() < SERIES_MAX && known.insert(key))
    }
}

impl Host for HostState {
    fn set_gauge(&mut self, name: String, value: f64, tags: Vec<Tag>) -> wasmtime::Result<()> {
        self.count_call()?;
        if let Some(labels) = self.labels(&name, &tags) {
            crate::metrics::set_plugin_gauge(labels, value);
        }
        Ok(())
    }

    fn add_counter(&mut self, name: String, by: u64, tags: Vec<Tag>) -> wasmtime::Result<()> {
        self.count_call()?;
        if let Some(labels) = self.labels(&name, &tags) {
            crate::metrics::add_to_plugin_counter(labels, by);
        }
        Ok(())
    }
}

impl HostState {
    fn labels(&mut self, name: &str, tags: &[Tag]) -> Option<Vec<Label>> {
        if !is_well_formed(name, tags) {
            self.log(
                Level::Warn,
                "a metric was dropped: its name or labels are too long or not made of [a-z0-9_.]",
            );
            return None;
        }
        if !self.plugin.series.admit(name, tags) {
            self.log(
                Level::Warn,
                "a metric was dropped: the plugin has opened all the series that it may",
            );
            return None;
        }
        let mut labels = crate::metrics::plugin_labels(&self.plugin.name, name);
        labels.extend(
            tags.iter()
                .map(|tag| Label::new(tag.key.clone(), tag.value.clone())),
        );
        Some(labels)
    }
}

fn is_well_formed(name: &str, tags: &[Tag]) -> bool {
    let is_word = |text: &str| {
        !text.is_empty()
            && text.len() <= TEXT_MAX
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'.')
    };
    is_word(name)
        && tags.len() <= TAGS_MAX
        && tags.iter().all(|tag| {
            is_word(&tag.key)
                && tag.value.len() <= TEXT_MAX
                && !matches!(tag.key.as_str(), "plugin" | "name")
        })
}

#[cfg(test)]
mod tests {
    use super::{SERIES_MAX, Series, is_well_formed};
    use crate::bindings::shared::bellwether::host::metrics::Tag;

    fn tag(key: &str, value: &str) -> Tag {
        Tag {
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn a_plugin_opens_a_bounded_number_of_series() {
        let series = Series::default();
        for n in 0..SERIES_MAX {
            assert!(series.admit("height", &[tag("peer", &n.to_string())]));
        }
        assert!(!series.admit("height", &[tag("peer", "one more")]));
        assert!(
            series.admit("height", &[tag("peer", "7")]),
            "an open series stays usable"
        );
    }

    #[test]
    fn labels_that_would_break_the_export_are_refused() {
        assert!(is_well_formed("node.height", &[tag("peer", "any text")]));
        assert!(!is_well_formed("Node Height", &[]));
        assert!(!is_well_formed("", &[]));
        assert!(!is_well_formed("x", &[tag("plugin", "another")]));
        assert!(!is_well_formed("x", &vec![tag("a", "b"); 9]));
    }
}
