//! A plugin host on a clock that stands still, and the components to load into it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host_domain::ids::NodeId;
use host_domain::plugin::{AddressRange, Grants, HttpGrant, Limits, PluginKind};
use host_domain::time::{Clock, Millis};
use host_runtime::{
    CollectNode, CompileMode, LoadSpec, MemoryKv, NoSecrets, NodeContext, Plugin, PluginError,
    PluginHost, RuntimeConfig, Services,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// What every plugin here takes for the present.
pub(crate) const NOW: Millis = Millis(1_800_000_000_000);

/// Stands still.
struct Standstill;

impl Clock for Standstill {
    fn now(&self) -> Millis {
        NOW
    }
}

/// Services with nothing behind them.
pub(crate) fn services() -> Services {
    Services {
        clock: Arc::new(Standstill),
        secrets: Arc::new(NoSecrets),
        kv: Arc::new(MemoryKv::default()),
    }
}

/// A host that shares its compiled components with the other tests: compiling is what costs here.
pub(crate) fn host() -> PluginHost {
    host_with(services())
}

/// The same with other services.
pub(crate) fn host_with(services: Services) -> PluginHost {
    let config = RuntimeConfig::new(cache_dir(), CompileMode::InProcess);
    PluginHost::new(config, services).unwrap()
}

fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache")
}

/// A first-party component.
pub(crate) fn component(name: &str) -> Vec<u8> {
    crate::support::dev::programs();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    read(
        "BELLWETHER_COMPONENTS",
        &project.join("chain-configs/components"),
        name,
    )
}

/// A component that misbehaves.
pub(crate) fn guest(name: &str) -> Vec<u8> {
    let target = crate::support::dev::programs().parent().unwrap().to_owned();
    read("BELLWETHER_TEST_GUESTS", &target.join("test-guests"), name)
}

fn read(variable: &str, default: &Path, name: &str) -> Vec<u8> {
    let dir = std::env::var_os(variable).map_or_else(|| default.to_owned(), PathBuf::from);
    let path = dir.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "cannot read {} ({error}); `cargo xtask setup` builds it",
            path.display()
        )
    })
}

/// What the tests load a plugin with: nothing granted, limits short enough to wait for.
pub(crate) fn spec(kind: PluginKind, config: Value) -> LoadSpec {
    LoadSpec {
        name: "under-test".into(),
        kind,
        digest: None,
        config,
        grants: Grants::default(),
        limits: Limits {
            cpu: Duration::from_millis(300),
            wall: Duration::from_secs(5),
            memory_mib: 16,
            ..Limits::of(kind)
        },
    }
}

/// A grant for one target.
pub(crate) fn http_grant(target: impl Into<String>, addresses: &[AddressRange]) -> HttpGrant {
    HttpGrant {
        target: target.into(),
        addresses: addresses.to_vec(),
    }
}

/// The collector that misbehaves, in the way of `act`.
pub(crate) async fn hostile(host: &PluginHost, act: Value) -> Plugin {
    hostile_with(host, act, vec![http_grant("node:rpc", &[])])
        .await
        .unwrap()
}

/// The same with other grants.
pub(crate) async fn hostile_with(
    host: &PluginHost,
    act: Value,
    http: Vec<HttpGrant>,
) -> Result<Plugin, PluginError> {
    let mut spec = spec(PluginKind::Collector, act);
    spec.grants.http = http;
    host.load(guest("hostile"), spec).await
}

/// One that behaves, beside the others.
pub(crate) async fn well_behaved(host: &PluginHost) -> Plugin {
    hostile(host, json!({"act": "behave"})).await
}

/// Some node.
pub(crate) fn node() -> CollectNode {
    CollectNode {
        id: NodeId(Uuid::from_u128(7)),
        chain: "anvil-devnet".into(),
        node_type: "full".into(),
    }
}

/// A node that has no port but `rpc`.
pub(crate) fn rpc_at(port: u16) -> NodeContext {
    NodeContext {
        ports: BTreeMap::from([("rpc".to_owned(), port)]),
        facts: None,
    }
}
