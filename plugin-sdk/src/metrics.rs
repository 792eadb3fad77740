//! Metrics that the host exports under the plugin's name.

use crate::Tag;
use crate::bindings::shared::bellwether::host::metrics;

/// Sets a gauge.
pub fn set_gauge(name: &str, value: f64, tags: &[Tag]) {
    metrics::set_gauge(name, value, tags);
}

/// Adds to a counter.
pub fn add_counter(name: &str, by: u64, tags: &[Tag]) {
    metrics::add_counter(name, by, tags);
}
