//! The plugin host's metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};
use metrics::Label;

/// Calls of plugins.
pub const CALL_DURATION: Metric = Metric {
    name: "plugin_call_duration_seconds",
    kind: MetricKind::Histogram,
    unit: MetricUnit::Seconds,
    labels: &["plugin", "kind", "outcome"],
    description: "Duration of calls of plugins, by plugin, kind of plugin, and `ok` or the error code",
};

/// Gauges of plugins.
pub const PLUGIN_GAUGE: Metric = Metric {
    name: "plugin_gauge",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Any,
    labels: &["plugin", "name"],
    description: "Values that plugins set, by plugin, by the name that the plugin chose, and by its own labels",
};

/// Counters of plugins.
pub const PLUGIN_COUNTER: Metric = Metric {
    name: "plugin_counter",
    kind: MetricKind::Counter,
    unit: MetricUnit::Any,
    labels: &["plugin", "name"],
    description: "Sums that plugins add to, by plugin, by the name that the plugin chose, and by its own labels",
};

/// All of them.
pub const METRICS: &[Metric] = &[CALL_DURATION, PLUGIN_GAUGE, PLUGIN_COUNTER];

pub(crate) fn call(plugin: &str, kind: &'static str, outcome: &'static str, seconds: f64) {
    let [of_plugin, of_kind, of_outcome] = [0, 1, 2].map(|at| CALL_DURATION.labels[at]);
    metrics::histogram!(
        CALL_DURATION.name,
        of_plugin => plugin.to_owned(), of_kind => kind, of_outcome => outcome
    )
    .record(seconds);
}

/// The first labels of a series that a plugin opens; its own follow.
pub(crate) fn plugin_labels(plugin: &str, name: &str) -> Vec<Label> {
    let values = [plugin, name].map(str::to_owned);
    let labels = PLUGIN_GAUGE.labels.iter().zip(values);
    labels.map(|(key, value)| Label::new(*key, value)).collect()
}

pub(crate) fn set_plugin_gauge(labels: Vec<Label>, value: f64) {
    metrics::gauge!(PLUGIN_GAUGE.name, labels).set(value);
}

pub(crate) fn add_to_plugin_counter(labels: Vec<Label>, by: u64) {
    metrics::counter!(PLUGIN_COUNTER.name, labels).increment(by);
}
