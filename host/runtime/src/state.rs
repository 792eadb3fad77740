//! The data in the store of one call: the plugin's grants, the node, and the counters of its limits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use host_domain::plugin::{Limits, PluginKind};
use wasmtime::component::ResourceTable;

use crate::capability::http::Clients;
use crate::capability::http_grants::HttpGrants;
use crate::capability::kv::KvScope;
use crate::capability::metrics::Series;
use crate::collector::NodeContext;
use crate::host::Services;
use crate::limits::{HostCallsSpent, MemoryLimiter};
use crate::load::Digest;
use crate::stats::{Stats, Stopwatch};

/// The maximum of host handles that one call may open.
const RESOURCES_MAX: usize = 64;

/// What all calls of one loaded plugin share; immutable except for its counters and connections.
pub(crate) struct PluginShared {
    pub(crate) name: String,
    pub(crate) kind: PluginKind,
    pub(crate) digest: Digest,
    pub(crate) limits: Limits,
    pub(crate) http: HttpGrants,
    pub(crate) clients: Clients,
    pub(crate) secrets: BTreeSet<String>,
    pub(crate) is_kv_granted: bool,
    pub(crate) services: Services,
    pub(crate) series: Series,
    pub(crate) stats: Stats,
}

impl PluginShared {
    /// The maximum bytes of a request or response body.
    pub(crate) fn http_body_bytes_max(&self) -> usize {
        usize::try_from(self.limits.http_body_kib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1024)
    }
}

/// The node that a call concerns.
#[derive(Clone)]
pub(crate) struct CallNode {
    pub(crate) kv_scope: KvScope,
    pub(crate) context: NodeContext,
}

/// The data of a store.
pub(crate) struct HostState {
    pub(crate) plugin: Arc<PluginShared>,
    pub(crate) node: CallNode,
    pub(crate) table: ResourceTable,
    pub(crate) memory: MemoryLimiter,
    pub(crate) log_lines_left: u32,
    pub(crate) log_lines_dropped: u32,
    host_calls_left: u32,
    started: Stopwatch,
}

impl HostState {
    /// The state at the start of a call.
    pub(crate) fn new(
        plugin: Arc<PluginShared>,
        node: CallNode,
        table_elements_max: usize,
        started: Stopwatch,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            memory: MemoryLimiter::new(plugin.limits.memory_mib, table_elements_max),
            log_lines_left: plugin.limits.log_lines,
            log_lines_dropped: 0,
            host_calls_left: plugin.limits.host_calls,
            plugin,
            node,
            table,
            started,
        }
    }

    /// Counts a call into the host; every function of every capability calls it first. The error ends the guest.
    pub(crate) fn count_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls_left = self.host_calls_left.checked_sub(1).ok_or(HostCallsSpent)?;
        Ok(())
    }

    /// The remaining time of the whole call.
    pub(crate) fn time_left(&self) -> Duration {
        self.plugin
            .limits
            .wall
            .saturating_sub(self.started.elapsed())
    }

    /// The node's id, or an empty text for a call without a node.
    pub(crate) fn node_id(&self) -> &str {
        &self.node.kv_scope.node
    }
}
