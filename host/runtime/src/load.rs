//! Loads a plugin from its bytes, with every check that is possible before its first real call, cheap ones first.

use std::fmt;
use std::sync::Arc;

use host_domain::plugin::{Description, Grants, Limits, PluginKind};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::bindings::shared::DescribedPre;
use crate::call::Caller;
use crate::capability::http::Clients;
use crate::capability::http_grants::HttpGrants;
use crate::capability::metrics::Series;
use crate::engine::{ROOMY_MEMORY_MIB, Tier};
use crate::error::{CallError, Failure, PluginError};
use crate::host::Inner;
use crate::plugin::{Linked, Plugin};
use crate::state::{HostState, PluginShared};
use crate::stats::Stats;
use crate::{config_schema, description, inspect, policy};

/// The SHA-256 of a component, written `sha256:<hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Parses `sha256:<hex>`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text.strip_prefix("sha256:")?, &mut digest).ok()?;
        Some(Self(digest))
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Enough digits to recognise it in a log.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

/// The configuration of a plugin.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// Its name in the configuration, also in logs, metrics and incidents.
    pub name: String,
    /// The kind that it is used as.
    pub kind: PluginKind,
    /// The configured digest of its bytes.
    pub digest: Option<Digest>,
    /// Its configuration block.
    pub config: Value,
    /// Its grants.
    pub grants: Grants,
    /// The limits of its calls.
    pub limits: Limits,
}

pub(crate) async fn load(
    host: &Arc<Inner>,
    bytes: &[u8],
    spec: LoadSpec,
) -> Result<Plugin, PluginError> {
    let digest = check_bytes(bytes, host.component_bytes_max, spec.digest)?;
    let http = HttpGrants::parse(&spec.grants.http)?;
    let tier = check_limits(host, &spec.limits)?;
    inspect::check_imports(&inspect::inspect(bytes)?, spec.kind, &spec.grants)?;
    let component = host.cache.component(&tier.engine, digest, bytes).await?;
    let world = |error: wasmtime::Error| PluginError::WrongWorld {
        kind: spec.kind,
        reason: format!("{error:#}"),
    };
    let linked = tier
        .linker(spec.kind)
        .instantiate_pre(&component)
        .map_err(world)?;
    let described = DescribedPre::new(linked.clone()).map_err(world)?;
    let linked = Linked::new(spec.kind, linked).map_err(world)?;
    let shared = Arc::new(PluginShared {
        name: spec.name,
        kind: spec.kind,
        digest,
        limits: spec.limits,
        http,
        clients: Clients::default(),
        secrets: spec.grants.secrets.iter().cloned().collect(),
        is_kv_granted: spec.grants.kv,
        services: host.services.clone(),
        series: Series::default(),
        stats: Stats::default(),
    });
    let caller = Caller {
        shared,
        host: host.clone(),
    };
    let description = describe(&caller, &described).await?;
    check_description(&description, spec.kind, &spec.grants)?;
    let config = spec.config.to_string();
    config_schema::check(&description.config_schema, &spec.config)?;
    let plugin = Plugin::new(caller, linked, description, config);
    try_out(&plugin).await?;
    Ok(plugin)
}

fn check_bytes(bytes: &[u8], limit: u64, expected: Option<Digest>) -> Result<Digest, PluginError> {
    let size = bytes.len() as u64;
    if size > limit {
        return Err(PluginError::TooLarge { bytes: size, limit });
    }
    let actual = Digest::of(bytes);
    match expected.filter(|expected| *expected != actual) {
        Some(expected) => Err(PluginError::DigestMismatch {
            expected: expected.to_string(),
            actual: actual.to_string(),
        }),
        None => Ok(actual),
    }
}

fn check_limits<'a>(host: &'a Inner, limits: &Limits) -> Result<&'a Tier, PluginError> {
    let bad = |limit, reason: &str| PluginError::BadLimit {
        limit,
        reason: reason.to_owned(),
    };
    if limits.memory_mib == 0 {
        return Err(bad("memory_mib", "write at least 1 MiB"));
    }
    if limits.cpu.is_zero() || limits.wall < limits.cpu {
        return Err(bad(
            "wall",
            "`cpu` must be positive, and `wall` must be at least `cpu`",
        ));
    }
    let tier = host
        .engines
        .tier(limits.memory_mib)
        .map_err(|error| PluginError::Internal(error.into()))?;
    tier.ok_or_else(|| {
        bad(
            "memory_mib",
            &format!("write at most {ROOMY_MEMORY_MIB} MiB"),
        )
    })
}

async fn describe(
    caller: &Caller,
    described: &DescribedPre<HostState>,
) -> Result<Description, PluginError> {
    let said = caller
        .call(
            "describe",
            caller.no_node(),
            |mut store| async move {
                let answer = async {
                    let plugin = described.instantiate_async(&mut store).await?;
                    plugin
                        .bellwether_types_about()
                        .call_describe(&mut store)
                        .await
                };
                let answer = answer.await.map(Ok);
                (store, answer)
            },
            Ok,
        )
        .await
        .map_err(|source| PluginError::Canary {
            function: "describe",
            source,
        })?;
    description::convert(said)
}

fn check_description(
    said: &Description,
    kind: PluginKind,
    grants: &Grants,
) -> Result<(), PluginError> {
    if said.kind != kind {
        return Err(PluginError::WrongKind {
            expected: kind,
            actual: said.kind,
        });
    }
    inspect::check_grants(&said.wants, grants)
}

/// Calls what has no effect: a policy evaluates an empty sheet and a row without values. Linking alone proves little:
/// only a call detects, for example, a variant with an additional case.
async fn try_out(plugin: &Plugin) -> Result<(), PluginError> {
    match plugin.kind() {
        PluginKind::Collector | PluginKind::Notifier => return Ok(()),
        PluginKind::HealthPolicy => {}
    }
    let names = &plugin.description().reads;
    for sheet in [policy::canary(names, 0), policy::canary(names, 1)] {
        plugin.evaluate(&sheet).await.map_err(|error| match error {
            CallError::Failure(Failure::BadConfig { path, reason }) => {
                PluginError::BadConfig { path, reason }
            }
            source => PluginError::Canary {
                function: "evaluate",
                source,
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Digest, check_bytes};

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest = Digest::of(b"component");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(digest.short().len(), 12);
        for bad in ["", "sha256:", "sha256:zz", "md5:00", &digest.hex()] {
            assert_eq!(Digest::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn size_and_digest_are_checked_before_anything_looks_inside() {
        assert!(check_bytes(b"1234", 4, Some(Digest::of(b"1234"))).is_ok());
        assert_eq!(
            check_bytes(b"12345", 4, None).unwrap_err().code(),
            "plugin_too_large"
        );
        assert_eq!(
            check_bytes(b"1234", 4, Some(Digest::of(b"4321")))
                .unwrap_err()
                .code(),
            "plugin_digest_mismatch"
        );
    }
}
