//! What plugins can ask of the host: one file per interface of `wit/host`, each its own gatekeeper.
//!
//! A capability checks at call time, against the grants of the revision that calls; what is not granted is a typed refusal that
//! the guest can handle, never a trap.

pub(crate) mod address;
pub(crate) mod clock;
pub(crate) mod facts;
pub(crate) mod http;
pub(crate) mod http_grants;
pub(crate) mod http_secrets;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod secrets;

use host_domain::plugin::{Capability, PluginKind};
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::shared::bellwether::{host, types};
use crate::state::HostState;

/// The capabilities of a kind's world, as in `wit/`.
pub(crate) fn world_of(kind: PluginKind) -> &'static [Capability] {
    use Capability::{Clock, Facts, Http, Kv, Log, Metrics, Secrets};
    match kind {
        PluginKind::Collector => &[Log, Clock, Metrics, Facts, Kv, Secrets, Http],
        PluginKind::HealthPolicy => &[Log],
        PluginKind::Notifier => &[Log, Clock, Kv, Secrets, Http],
    }
}

/// Offers the interfaces of a kind's world, and no other.
pub(crate) fn link(linker: &mut Linker<HostState>, kind: PluginKind) -> wasmtime::Result<()> {
    types::observations::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    types::failures::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)?;
    for capability in world_of(kind) {
        match capability {
            Capability::Log => host::log::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?,
            Capability::Clock => {
                host::clock::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?;
            }
            Capability::Metrics => {
                host::metrics::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?;
            }
            Capability::Facts => {
                host::facts::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?;
            }
            Capability::Kv => host::kv::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?,
            Capability::Secrets => {
                host::secrets::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?;
            }
            Capability::Http => host::http::add_to_linker::<_, HasSelf<HostState>>(linker, |s| s)?,
        }
    }
    Ok(())
}

impl types::observations::Host for HostState {}
impl types::failures::Host for HostState {}
