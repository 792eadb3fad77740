//! The event bus's metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};

/// Whether NATS is connected.
pub const CONNECTED: Metric = Metric {
    name: "events_bus_connected",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Flag,
    labels: &[],
    description: "Whether this host is connected to NATS",
};

/// Events that wait.
pub const CONSUMER_LAG: Metric = Metric {
    name: "events_consumer_lag",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    labels: &["consumer"],
    description: "Events on NATS that a consumer has not taken yet, by consumer",
};

/// Events of an unknown form.
pub const UNREADABLE: Metric = Metric {
    name: "events_unreadable_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Events from NATS that this host dropped because it could not read them",
};

/// Lost wake-ups.
pub const WAKES_LOST: Metric = Metric {
    name: "events_wakes_lost_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Wake-ups between hosts that were lost; polling makes up for them",
};

/// All of them.
pub const METRICS: &[Metric] = &[CONNECTED, CONSUMER_LAG, UNREADABLE, WAKES_LOST];

pub(crate) fn connected(is_connected: bool) {
    metrics::gauge!(CONNECTED.name).set(f64::from(u8::from(is_connected)));
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn consumer_lag(consumer: &'static str, n_events: u64) {
    metrics::gauge!(CONSUMER_LAG.name, CONSUMER_LAG.labels[0] => consumer).set(n_events as f64);
}

pub(crate) fn unreadable() {
    metrics::counter!(UNREADABLE.name).increment(1);
}

pub(crate) fn wake_lost() {
    metrics::counter!(WAKES_LOST.name).increment(1);
}
