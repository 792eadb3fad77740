//! Statistics of a plugin's calls, for the API and for metrics.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use host_domain::plugin::PluginKind;

use crate::error::CallError;

/// Totals over the calls of one loaded plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginStats {
    /// Calls made.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// The time of all calls, including waits.
    pub total_time: Duration,
    /// The last failure.
    pub last_error: Option<String>,
}

/// The totals behind a lock that is held only for an addition.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<PluginStats>);

impl Stats {
    pub(crate) fn read(&self) -> PluginStats {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Adds a call to the totals and to the process's metrics.
    pub(crate) fn record(
        &self,
        name: &str,
        kind: PluginKind,
        took: Duration,
        error: Option<&CallError>,
    ) {
        let outcome = error.map_or("ok", CallError::code);
        crate::metrics::call(name, kind.as_str(), outcome, took.as_secs_f64());
        let mut stats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stats.calls += 1;
        stats.total_time += took;
        if let Some(error) = error {
            stats.failures += 1;
            stats.last_error = Some(error.to_string());
        }
    }
}

/// Measures a duration. Only this type of the crate reads a monotonic clock, and never for a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(
        clippy::disallowed_methods,
        reason = "a duration of a call, which no injected clock can measure"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
