//! Limits inside one call: memory, tables and instances of its store, and its CPU time.

use std::time::Duration;

use wasmtime::{ResourceLimiter, Store, UpdateDeadline};

use crate::engine::{TABLE_ELEMENTS_MAX, TICK};
use crate::state::HostState;

/// The maximum core instances of one component, as in the pool.
pub(crate) const INSTANCES_MAX: usize = 50;
/// The maximum linear memories of one component.
pub(crate) const MEMORIES_MAX: usize = 10;
/// The maximum tables of one component.
pub(crate) const TABLES_MAX: usize = 20;
/// The maximum bytes that the guest may pass at once, as an answer or as arguments of a host call.
pub(crate) const HANDOVER_BYTES_MAX: usize = 4 << 20;
/// The maximum handles of a guest.
const HANDLES_MAX: usize = 256;

/// Counts the memory of one store over all its linear memories, and remembers a refused growth.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    bytes_max: usize,
    bytes: usize,
    table_elements_max: usize,
    /// Whether growth was refused: a following trap then means that the guest ran out of memory.
    pub(crate) is_refused: bool,
}

impl MemoryLimiter {
    pub(crate) fn new(memory_mib: u32, table_elements_max: usize) -> Self {
        let bytes_max = usize::try_from(memory_mib)
            .unwrap_or(usize::MAX)
            .saturating_mul(1 << 20);
        Self {
            bytes_max,
            bytes: 0,
            table_elements_max,
            is_refused: false,
        }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.bytes.saturating_add(desired.saturating_sub(current));
        if total > self.bytes_max {
            self.is_refused = true;
            return Ok(false);
        }
        self.bytes = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let is_fine = desired <= self.table_elements_max;
        self.is_refused |= !is_fine;
        Ok(is_fine)
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        TABLES_MAX
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX
    }
}

impl Default for MemoryLimiter {
    fn default() -> Self {
        Self::new(64, TABLE_ELEMENTS_MAX)
    }
}

/// The guest exceeded its CPU time. The engine carries this marker as the reason of the trap.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("out of CPU time")]
pub(crate) struct CpuSpent;

/// The guest exceeded its host calls.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("out of host calls")]
pub(crate) struct HostCallsSpent;

/// Sets the CPU limit of a store. The guest yields at every tick, so that it never blocks a thread, and traps after
/// as many ticks as its CPU time has. A wait for the host costs at most one tick.
pub(crate) fn arm(store: &mut Store<HostState>, cpu: Duration) {
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(HANDOVER_BYTES_MAX);
    store.set_max_component_handles(HANDLES_MAX);
    let mut ticks_left = ticks(cpu);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |_| {
        if ticks_left == 0 {
            return Err(CpuSpent.into());
        }
        ticks_left -= 1;
        Ok(UpdateDeadline::Yield(1))
    });
}

fn ticks(cpu: Duration) -> u64 {
    u64::try_from(cpu.as_millis().div_ceil(TICK.as_millis()))
        .unwrap_or(u64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmtime::ResourceLimiter;

    use super::{MemoryLimiter, ticks};

    #[test]
    fn memory_is_counted_over_all_memories_of_a_store() {
        let mut limiter = MemoryLimiter::new(1, 10);
        assert!(limiter.memory_growing(0, 600 << 10, None).unwrap());
        assert!(!limiter.memory_growing(0, 600 << 10, None).unwrap());
        assert!(limiter.is_refused);
        assert!(limiter.memory_growing(0, 400 << 10, None).unwrap());
    }

    #[test]
    fn tables_are_bounded() {
        let mut limiter = MemoryLimiter::new(1, 10);
        assert!(limiter.table_growing(0, 10, None).unwrap());
        assert!(!limiter.is_refused);
        assert!(!limiter.table_growing(0, 11, None).unwrap());
        assert!(limiter.is_refused);
    }

    #[test]
    fn computing_time_is_rounded_up_to_ticks() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(100)), 10);
        assert_eq!(ticks(Duration::from_millis(101)), 11);
    }
}
