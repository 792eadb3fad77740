//! The path of every call: a slot among the concurrent calls, a new store with limits, the guest, and its result.

use std::sync::Arc;

use tracing::Instrument;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use crate::bindings::shared::bellwether::types::failures::Failure as WitFailure;
use crate::capability::kv::KvScope;
use crate::capability::log::cut;
use crate::collector::NodeContext;
use crate::engine::Tier;
use crate::error::{CallError, Failure, TimeKind};
use crate::host::Inner;
use crate::limits::{self, CpuSpent, HANDOVER_BYTES_MAX, HostCallsSpent};
use crate::state::{CallNode, HostState, PluginShared};
use crate::stats::Stopwatch;

/// Longer texts of guests are truncated to this length in errors.
const REASON_BYTES_MAX: usize = 1024;

/// The result of a guest function.
pub(crate) type Answer<T> = wasmtime::Result<Result<T, WitFailure>>;

/// Makes the calls of one loaded plugin.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) shared: Arc<PluginShared>,
    pub(crate) host: Arc<Inner>,
}

impl Caller {
    /// The subject of a call that concerns no node.
    pub(crate) fn no_node(&self) -> CallNode {
        let kv_scope = KvScope {
            plugin: self.shared.name.clone(),
            node: String::new(),
        };
        CallNode {
            kv_scope,
            context: NodeContext::default(),
        }
    }

    /// Runs `body` in a new store, converts the answer and counts the result; an invalid answer is a failure.
    pub(crate) async fn call<T, U, F>(
        &self,
        function: &'static str,
        node: CallNode,
        body: impl FnOnce(Store<HostState>) -> F,
        accept: impl FnOnce(T) -> Result<U, CallError>,
    ) -> Result<U, CallError>
    where
        F: Future<Output = (Store<HostState>, Answer<T>)>,
    {
        let shared = &self.shared;
        let span = tracing::debug_span!(
            "plugin.call",
            plugin = shared.name,
            function,
            node = node.kv_scope.node
        );
        let started = Stopwatch::start();
        let answer = self.bounded(started, node, body).instrument(span).await;
        let result = answer.and_then(accept);
        shared.stats.record(
            &shared.name,
            shared.kind,
            started.elapsed(),
            result.as_ref().err(),
        );
        result
    }

    async fn bounded<T, F>(
        &self,
        started: Stopwatch,
        node: CallNode,
        body: impl FnOnce(Store<HostState>) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = (Store<HostState>, Answer<T>)>,
    {
        let wall = self.shared.limits.wall;
        let Ok(Ok(_permit)) = tokio::time::timeout(wall, self.host.permits.acquire()).await else {
            return Err(CallError::Busy);
        };
        let tier = self.tier()?;
        let state = HostState::new(self.shared.clone(), node, tier.table_elements_max, started);
        let mut store = Store::new(&tier.engine, state);
        limits::arm(&mut store, self.shared.limits.cpu);
        // Dropping the future drops the store and everything that the call held.
        match tokio::time::timeout(wall.saturating_sub(started.elapsed()), body(store)).await {
            Ok((store, answer)) => self.settle(store.data(), answer),
            Err(_elapsed) => Err(CallError::OutOfTime {
                kind: TimeKind::Wall,
                limit: wall,
            }),
        }
    }

    /// The tier existed when the plugin was loaded, and tiers are never removed.
    fn tier(&self) -> Result<&Tier, CallError> {
        self.host
            .engines
            .tier(self.shared.limits.memory_mib)
            .ok()
            .flatten()
            .ok_or(CallError::Busy)
    }

    fn settle<T>(&self, state: &HostState, answer: Answer<T>) -> Result<T, CallError> {
        if state.log_lines_dropped > 0 {
            let (plugin, dropped) = (self.shared.name.as_str(), state.log_lines_dropped);
            tracing::warn!(target: "plugin", plugin, dropped, "the plugin exceeded its limit of log lines; the host dropped the rest");
        }
        match answer {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(CallError::Failure(failure.into())),
            Err(error) => Err(self.classify(state, &error)),
        }
    }

    /// Why the guest ended.
    fn classify(&self, state: &HostState, error: &wasmtime::Error) -> CallError {
        let limits = &self.shared.limits;
        if error.is::<CpuSpent>() {
            return CallError::OutOfTime {
                kind: TimeKind::Cpu,
                limit: limits.cpu,
            };
        }
        if error.is::<HostCallsSpent>() {
            return CallError::TooManyHostCalls {
                limit: limits.host_calls,
            };
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return CallError::Busy;
        }
        if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
            return CallError::OutOfStack;
        }
        if is_handover_too_large(error) {
            return CallError::AnswerTooLarge {
                limit_kib: u32::try_from(HANDOVER_BYTES_MAX >> 10).unwrap_or(u32::MAX),
            };
        }
        if state.memory.is_refused {
            return CallError::OutOfMemory {
                limit_mib: limits.memory_mib,
            };
        }
        CallError::Trap {
            reason: describe_trap(error),
        }
    }
}

/// The engine has no public type for this error; a test with a hostile guest checks the text.
fn is_handover_too_large(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .to_string()
            .contains("fuel allocated for hostcalls has been exhausted")
    })
}

/// The innermost cause and the function it happened in.
fn describe_trap(error: &wasmtime::Error) -> String {
    let cause = error.root_cause().to_string();
    let place = error
        .downcast_ref::<WasmBacktrace>()
        .and_then(|trace| trace.frames().iter().find_map(|frame| frame.func_name()))
        .map(|name| format!(" in `{name}`"))
        .unwrap_or_default();
    cut_owned(&format!("{cause}{place}"), REASON_BYTES_MAX)
}

/// The start of a guest's text.
pub(crate) fn cut_owned(text: &str, max: usize) -> String {
    cut(text, max).to_owned()
}

impl From<WitFailure> for Failure {
    fn from(failure: WitFailure) -> Self {
        let bounded = |text: String| cut_owned(&text, REASON_BYTES_MAX);
        match failure {
            WitFailure::BadConfig(field) => Self::BadConfig {
                path: bounded(field.path),
                reason: bounded(field.reason),
            },
            WitFailure::Denied(text) => Self::Denied(bounded(text)),
            WitFailure::Upstream(text) => Self::Upstream(bounded(text)),
            WitFailure::Other(text) => Self::Other(bounded(text)),
        }
    }
}
