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

/// All of them.
pub const METRICS: &[Metric] = &[TROUBLES];

pub(crate) fn trouble() {
    metrics::counter!(TROUBLES.name).increment(1);
}
