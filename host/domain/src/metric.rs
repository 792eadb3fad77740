//! Metrics as data: each crate lists its own, and the reference page is generated from the lists.

/// A metric that the host or the agent exposes to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name in Prometheus.
    pub name: &'static str,
    /// How the value changes.
    pub kind: MetricKind,
    /// What the value counts or measures.
    pub unit: MetricUnit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for operators.
    pub description: &'static str,
}

/// How the value of a metric changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises while the process runs.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observed values in buckets.
    Histogram,
}

impl MetricKind {
    /// The name in Prometheus.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What the value of a metric counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// A number of things or events.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// 1 for yes and 0 for no.
    Flag,
    /// Whatever a plugin measures.
    Any,
}

impl MetricUnit {
    /// The name on the reference page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Flag => "0 or 1",
            Self::Any => "any",
        }
    }
}
