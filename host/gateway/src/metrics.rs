//! The gateway's metrics: their names, labels and units, and the only place that records them.

use host_domain::metric::{Metric, MetricKind, MetricUnit};

/// Connected agents.
pub const AGENTS_CONNECTED: Metric = Metric {
    name: "agent_connected",
    kind: MetricKind::Gauge,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Agents that are connected to this host",
};

/// Latency of commands.
pub const COMMAND_LATENCY: Metric = Metric {
    name: "agent_command_latency_seconds",
    kind: MetricKind::Histogram,
    unit: MetricUnit::Seconds,
    labels: &[],
    description: "Time from queueing a command until its agent accepted it",
};

/// Dropped beats.
pub const BEATS_DROPPED: Metric = Metric {
    name: "gateway_beats_dropped_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Beats of nodes that were dropped because too many nodes wait for the database",
};

/// Timeouts of the host's handlers.
pub const HOOK_TIMEOUTS: Metric = Metric {
    name: "gateway_hook_timeouts_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &["hook"],
    description: "Reports of agents that the host did not handle in time, by handler",
};

/// Observations from agents.
pub const OBSERVATIONS: Metric = Metric {
    name: "gateway_observations_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Observations that the gateway wrote or tried to write to the database",
};

/// Refused requests and items.
pub const REFUSED: Metric = Metric {
    name: "gateway_refused_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &["reason"],
    description: "Requests of agents, and items in them, that the gateway refused, by reason",
};

/// Agents that read too slowly.
pub const SLOW_AGENTS: Metric = Metric {
    name: "gateway_slow_agents_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Sessions that ended because the agent did not receive a message in time",
};

/// Messages of an unknown kind.
pub const UNKNOWN_MESSAGES: Metric = Metric {
    name: "gateway_unknown_messages_total",
    kind: MetricKind::Counter,
    unit: MetricUnit::Count,
    labels: &[],
    description: "Messages from agents of a kind that this host does not know",
};

/// Every metric of the gateway.
pub const METRICS: &[Metric] = &[
    AGENTS_CONNECTED,
    COMMAND_LATENCY,
    BEATS_DROPPED,
    HOOK_TIMEOUTS,
    OBSERVATIONS,
    REFUSED,
    SLOW_AGENTS,
    UNKNOWN_MESSAGES,
];

pub(crate) fn agents_connected(n_agents: usize) {
    let n_agents = u32::try_from(n_agents).unwrap_or(u32::MAX);
    metrics::gauge!(AGENTS_CONNECTED.name).set(n_agents);
}

pub(crate) fn command_accepted_after(seconds: f64) {
    metrics::histogram!(COMMAND_LATENCY.name).record(seconds);
}

pub(crate) fn beats_dropped(n_beats: u64) {
    metrics::counter!(BEATS_DROPPED.name).increment(n_beats);
}

pub(crate) fn hook_timeout(hook: &'static str) {
    metrics::counter!(HOOK_TIMEOUTS.name, HOOK_TIMEOUTS.labels[0] => hook).increment(1);
}

pub(crate) fn observations(n_rows: u64) {
    metrics::counter!(OBSERVATIONS.name).increment(n_rows);
}

pub(crate) fn refused(reason: &'static str, n_items: u64) {
    metrics::counter!(REFUSED.name, REFUSED.labels[0] => reason).increment(n_items);
}

pub(crate) fn slow_agent() {
    metrics::counter!(SLOW_AGENTS.name).increment(1);
}

pub(crate) fn unknown_message() {
    metrics::counter!(UNKNOWN_MESSAGES.name).increment(1);
}
