//! The state that every call and every session of the gateway shares.

use host_domain::time::Millis;

use crate::beats::BeatWriter;
use crate::config::{GatewayConfig, GatewayOptions};
use crate::ingest::Ingester;
use crate::parts::GatewayParts;
use crate::revocations::RevocationCounter;
use crate::store::GatewayStore;

/// What every call works with.
pub(crate) struct Shared {
    pub(crate) config: GatewayConfig,
    pub(crate) options: GatewayOptions,
    pub(crate) parts: GatewayParts,
    pub(crate) beats: BeatWriter,
    pub(crate) revocations: RevocationCounter,
    pub(crate) ingester: Ingester,
}

impl Shared {
    pub(crate) fn now(&self) -> Millis {
        self.parts.clock.now()
    }

    pub(crate) fn store(&self) -> &dyn GatewayStore {
        &*self.parts.store
    }

    /// How long processes with keys may run after an answer.
    pub(crate) fn lease_ms(&self) -> u64 {
        u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX)
    }
}
