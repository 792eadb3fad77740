//! Converts between the protocol's messages and the types of the plugin host.

use std::collections::BTreeMap;
use std::time::Duration;

use host_domain::observation::{Observation, Scalar};
use host_domain::plugin::{AddressRange, Grants, HttpGrant, Limits, PluginKind};
use host_runtime::{Digest, LoadSpec};
use prost::Message as _;
use proto::v1 as pb;
use proto::v1::observation::Value;

/// The shortest time between two calls of a collector.
const EVERY_MIN: Duration = Duration::from_millis(50);

/// One collector of one node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) node_id: String,
    pub(super) chain: String,
    pub(super) node_type: String,
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) every: Duration,
    pub(super) plugin: PluginKey,
}

/// Everything that determines how a plugin is loaded. Collectors with equal keys share one plugin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PluginKey(Vec<u8>);

impl PluginKey {
    fn of(collector: &pb::CollectorAssignment) -> Self {
        let shared = pb::CollectorAssignment {
            name: String::new(),
            every_ms: 0,
            ..collector.clone()
        };
        Self(shared.encode_to_vec())
    }

    /// How to load the plugin. The error goes to the host.
    pub(super) fn load_spec(&self) -> Result<(Digest, LoadSpec), String> {
        let plugin = pb::CollectorAssignment::decode(self.0.as_slice())
            .map_err(|error| error.to_string())?;
        let digest = Digest::parse(&plugin.component_digest).ok_or_else(|| {
            format!(
                "`{}` is not the digest of a component",
                plugin.component_digest
            )
        })?;
        let config = match plugin.config_json.as_str() {
            "" => serde_json::json!({}),
            text => serde_json::from_str(text)
                .map_err(|error| format!("the plugin's configuration is not JSON: {error}"))?,
        };
        let spec = LoadSpec {
            name: plugin.plugin,
            kind: PluginKind::Collector,
            digest: Some(digest),
            config,
            grants: plugin.grants.as_ref().map(grants).unwrap_or_default(),
            limits: plugin
                .limits
                .as_ref()
                .map_or_else(|| Limits::of(PluginKind::Collector), limits),
        };
        Ok((digest, spec))
    }

    /// The digest as the host sent it.
    pub(super) fn digest_text(&self) -> String {
        pb::CollectorAssignment::decode(self.0.as_slice())
            .map(|p| p.component_digest)
            .unwrap_or_default()
    }
}

pub(super) fn target(node: &pb::NodeAssignment, collector: &pb::CollectorAssignment) -> Target {
    let ports = node
        .ports
        .iter()
        .filter_map(|(name, port)| Some((name.clone(), u16::try_from(*port).ok()?)));
    Target {
        node_id: node.node_id.clone(),
        chain: node.chain.clone(),
        node_type: node.node_type.clone(),
        ports: ports.collect(),
        every: Duration::from_millis(collector.every_ms).max(EVERY_MIN),
        plugin: PluginKey::of(collector),
    }
}

fn grants(grants: &pb::Grants) -> Grants {
    let http = |grant: &pb::HttpGrant| HttpGrant {
        target: grant.target.clone(),
        addresses: grant.addresses().filter_map(range).collect(),
    };
    Grants {
        http: grants.http.iter().map(http).collect(),
        secrets: grants.secrets.clone(),
        kv: grants.kv,
    }
}

fn range(range: pb::http_grant::AddressRange) -> Option<AddressRange> {
    use pb::http_grant::AddressRange as R;
    match range {
        // The agent grants no unknown range.
        R::Unspecified => None,
        R::Loopback => Some(AddressRange::Loopback),
        R::Private => Some(AddressRange::Private),
        R::LinkLocal => Some(AddressRange::LinkLocal),
    }
}

fn limits(limits: &pb::Limits) -> Limits {
    let default = Limits::of(PluginKind::Collector);
    let number = |value: u32, default: u32| if value == 0 { default } else { value };
    let span = |ms: u64, default: Duration| {
        if ms == 0 {
            default
        } else {
            Duration::from_millis(ms)
        }
    };
    Limits {
        memory_mib: number(limits.memory_mib, default.memory_mib),
        cpu: span(limits.cpu_ms, default.cpu),
        wall: span(limits.wall_ms, default.wall),
        http_body_kib: number(limits.http_body_kib, default.http_body_kib),
        host_calls: number(limits.host_calls, default.host_calls),
        log_lines: number(limits.log_lines, default.log_lines),
    }
}

/// An observation for the host.
pub(super) fn observation(from: Observation) -> pb::Observation {
    let value = match from.value {
        Scalar::Absent => None,
        Scalar::Flag(flag) => Some(Value::Flag(flag)),
        Scalar::Int(int) => Some(Value::Integer(int)),
        Scalar::Real(real) => Some(Value::Real(real)),
        Scalar::Text(text) => Some(Value::Text(text)),
    };
    pb::Observation {
        name: from.name,
        value,
    }
}
