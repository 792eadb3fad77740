//! `bellwether:host/clock`: the time, from the clock that the process injects.

use crate::bindings::shared::bellwether::host::clock::Host;
use crate::state::HostState;

impl Host for HostState {
    fn now_ms(&mut self) -> wasmtime::Result<i64> {
        self.count_call()?;
        Ok(self.plugin.services.clock.now().0)
    }
}
