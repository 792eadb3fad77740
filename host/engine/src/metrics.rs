//! The workflow engines' metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};

/// Failed writes.
pub const TROUBLES: Metric = Metric {
    name: "workflow_engine_troubles_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Writes of the engine duroxide to its file that failed and can be retried",
};

/// Work that waits for a worker.
pub const QUEUED: Metric = Metric {
    name: "workflow_engine_queued",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Messages and activities in the queues of the engine duroxide",
};

/// All of them.
pub const METRICS: &[Metric] = &[TROUBLES, QUEUED];

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn queued(n_waiting: usize) {
    metrics::gauge!(QUEUED.name).set(n_waiting as f64);
}

pub(crate) fn trouble() {
    metrics::counter!(TROUBLES.name).increment(1);
}
