//! The store's metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};

/// Repeated transactions.
pub const RETRIES: Metric = Metric {
    name: "db_transaction_retries_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Transactions that were retried because the database undid them",
};

/// All of them.
pub const METRICS: &[Metric] = &[RETRIES];

pub(crate) fn retry() {
    metrics::counter!(RETRIES.name).increment(1);
}
