//! The host's metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};

/// Answered requests.
pub const HTTP_REQUESTS: Metric = Metric {
    name: "http_requests_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &["method", "route", "status"],
    description: "HTTP requests that the host answered",
};

/// Duration of requests.
pub const HTTP_DURATION: Metric = Metric {
    name: "http_request_duration_seconds",
    kind: MetricKind::Histogram,
    unit: MetricUnit::Seconds,
    labels: &["method", "route", "status"],
    description: "Time from the arrival of an HTTP request to its answer",
};

/// Whether this host leads.
pub const IS_LEADER: Metric = Metric {
    name: "health_evaluator_is_leader",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Flag,
    labels: &[],
    description: "Whether this host is the leader, which evaluates health and runs the other loops of the fleet",
};

/// Notifications that ended.
pub const NOTIFICATIONS: Metric = Metric {
    name: "notifications_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &["receiver", "state"],
    description: "Notifications that reached their final state, by receiver and state",
};

/// Age of the outbox.
pub const OUTBOX_LAG: Metric = Metric {
    name: "outbox_lag_seconds",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Seconds,
    labels: &["queue"],
    description: "Age of the oldest entry that waits in an outbox queue",
};

/// Length of the outbox.
pub const OUTBOX_WAITING: Metric = Metric {
    name: "outbox_waiting",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    labels: &["queue"],
    description: "Entries that wait in an outbox queue",
};

/// Dead letters.
pub const DEAD_LETTERS: Metric = Metric {
    name: "outbox_dead_letters",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Entries of the outbox that the host gave up on; `bellwether dead-letter` lists them",
};

/// All of them.
pub const METRICS: &[Metric] = &[
    HTTP_REQUESTS,
    HTTP_DURATION,
    IS_LEADER,
    NOTIFICATIONS,
    OUTBOX_LAG,
    OUTBOX_WAITING,
    DEAD_LETTERS,
];

/// Every metric of the host's process.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    let crates = [
        METRICS,
        host_bus::metrics::METRICS,
        host_engine::metrics::METRICS,
        host_gateway::metrics::METRICS,
        host_runtime::metrics::METRICS,
        host_store::metrics::METRICS,
    ];
    crates.into_iter().flatten()
}

/// Gives every description to the recorder that this process has installed.
pub(crate) fn describe() {
    for metric in all() {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.description),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.description),
        }
    }
}

pub(crate) fn http_request(method: String, route: String, status: String, seconds: f64) {
    let values = [method, route, status];
    let labels = HTTP_REQUESTS.labels.iter().copied().zip(values);
    let labels: Vec<(&'static str, String)> = labels.collect();
    metrics::counter!(HTTP_REQUESTS.name, &labels).increment(1);
    metrics::histogram!(HTTP_DURATION.name, &labels).record(seconds);
}

pub(crate) fn leads(is_leader: bool) {
    metrics::gauge!(IS_LEADER.name).set(f64::from(u8::from(is_leader)));
}

pub(crate) fn notification(receiver: String, state: &'static str) {
    let [of_receiver, of_state] = [0, 1].map(|at| NOTIFICATIONS.labels[at]);
    metrics::counter!(NOTIFICATIONS.name, of_receiver => receiver, of_state => state).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn outbox(queue: &'static str, oldest_seconds: f64, n_waiting: i64) {
    metrics::gauge!(OUTBOX_LAG.name, OUTBOX_LAG.labels[0] => queue).set(oldest_seconds);
    metrics::gauge!(OUTBOX_WAITING.name, OUTBOX_WAITING.labels[0] => queue).set(n_waiting as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn dead_letters(n_letters: i64) {
    metrics::gauge!(DEAD_LETTERS.name).set(n_letters as f64);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_metric_is_listed_once_and_described() {
        let names: BTreeSet<&str> = all().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all().count());
        for metric in all() {
            let is_total = metric.name.ends_with("_total");
            let is_counter = metric.kind == MetricKind::Counter;
            // A plugin names its own counters.
            let is_of_plugins = metric.unit == MetricUnit::Any;
            assert!(is_of_plugins || is_total == is_counter, "{metric:?}");
            assert!(!metric.description.is_empty(), "{metric:?}");
        }
    }
}
