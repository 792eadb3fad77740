//! The WebAssembly engines with their settings, and the thread that advances their epochs.
//!
//! Two tiers share all settings that affect compiled code, so that one compiled file serves both: the standard tier
//! has a pool of small memories, which makes an instance cost microseconds; the roomy tier is for interpreted guests
//! that need hundreds of MiB. Where the address space is limited, the pool can't be reserved and memory is allocated
//! on demand, which is only slower.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use host_domain::plugin::PluginKind;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::capability;
use crate::error::RuntimeError;
use crate::limits::{INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::state::HostState;

/// How often running guests yield and their CPU time is counted.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// The memory limit of a guest in the standard tier; guests with a higher limit run in the roomy tier.
pub(crate) const STANDARD_MEMORY_MIB: u32 = 64;
/// The memory limit of a guest in the roomy tier.
pub(crate) const ROOMY_MEMORY_MIB: u32 = 512;
/// Table elements of a guest in the standard tier.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 10_000;
/// Table elements of a guest in the roomy tier: CPython has tens of thousands of functions.
const ROOMY_TABLE_ELEMENTS_MAX: usize = 100_000;
/// Stack of the guest's own frames.
const WASM_STACK_BYTES: usize = 512 << 10;

/// An engine with a linker for each kind.
pub(crate) struct Tier {
    pub(crate) engine: Engine,
    pub(crate) table_elements_max: usize,
    collector: Linker<HostState>,
    health_policy: Linker<HostState>,
    notifier: Linker<HostState>,
}

impl Tier {
    fn new(pool: &Pool) -> Result<Self, RuntimeError> {
        let engine = build_engine(pool).map_err(|error| RuntimeError::Engine(error.into()))?;
        let linker = |kind| {
            let mut linker = Linker::new(&engine);
            capability::link(&mut linker, kind)
                .map_err(|error| RuntimeError::Engine(error.into()))?;
            Ok(linker)
        };
        Ok(Self {
            collector: linker(PluginKind::Collector)?,
            health_policy: linker(PluginKind::HealthPolicy)?,
            notifier: linker(PluginKind::Notifier)?,
            table_elements_max: pool.table_elements,
            engine,
        })
    }

    /// What a kind can import.
    pub(crate) fn linker(&self, kind: PluginKind) -> &Linker<HostState> {
        match kind {
            PluginKind::Collector => &self.collector,
            PluginKind::HealthPolicy => &self.health_policy,
            PluginKind::Notifier => &self.notifier,
        }
    }
}

/// Both tiers and their ticker.
pub(crate) struct Engines {
    standard: Tier,
    roomy: OnceLock<Tier>,
    ticker: Ticker,
    calls_max: u32,
}

impl Engines {
    /// Starts the standard tier; the roomy one starts when first needed.
    pub(crate) fn start(calls_max: u32) -> Result<Self, RuntimeError> {
        let standard = Tier::new(&Pool::standard(calls_max))?;
        let ticker = Ticker::start(standard.engine.weak())?;
        Ok(Self {
            standard,
            roomy: OnceLock::new(),
            ticker,
            calls_max,
        })
    }

    /// The tier for guests with this much memory, if there is one.
    pub(crate) fn tier(&self, memory_mib: u32) -> Result<Option<&Tier>, RuntimeError> {
        if memory_mib <= STANDARD_MEMORY_MIB {
            return Ok(Some(&self.standard));
        }
        if memory_mib > ROOMY_MEMORY_MIB {
            return Ok(None);
        }
        if let Some(tier) = self.roomy.get() {
            return Ok(Some(tier));
        }
        let tier = Tier::new(&Pool::roomy(self.calls_max.min(32)))?;
        // Two loads may race here: the losing tier is dropped before anything runs in it.
        let tier = self.roomy.get_or_init(|| tier);
        self.ticker.add(tier.engine.weak());
        Ok(Some(tier))
    }

    /// The engine version, settings and processor that compiled code depends on.
    pub(crate) fn compatibility(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.standard
            .engine
            .precompile_compatibility_hash()
            .hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// An engine that only compiles: the same settings without a pool.
pub(crate) fn compiler() -> wasmtime::Result<Engine> {
    Engine::new(&settings())
}

/// What the pool of a tier reserves.
struct Pool {
    slots: u32,
    memory_mib: u32,
    table_elements: usize,
}

impl Pool {
    fn standard(slots: u32) -> Self {
        Self {
            slots,
            memory_mib: STANDARD_MEMORY_MIB,
            table_elements: TABLE_ELEMENTS_MAX,
        }
    }

    fn roomy(slots: u32) -> Self {
        Self {
            slots,
            memory_mib: ROOMY_MEMORY_MIB,
            table_elements: ROOMY_TABLE_ELEMENTS_MAX,
        }
    }

    fn config(&self) -> PoolingAllocationConfig {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(self.slots)
            .total_core_instances(self.slots.saturating_mul(10))
            .total_memories(self.slots.saturating_mul(2))
            .total_tables(self.slots.saturating_mul(4))
            .total_stacks(self.slots)
            .max_core_instances_per_component(limit_u32(INSTANCES_MAX))
            .max_memories_per_component(limit_u32(MEMORIES_MAX))
            .max_tables_per_component(limit_u32(TABLES_MAX))
            .max_tables_per_module(4)
            .table_elements(self.table_elements)
            .max_memory_size(
                usize::try_from(self.memory_mib)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(1 << 20),
            )
            .linear_memory_keep_resident(256 << 10)
            .max_unused_warm_slots(self.slots.min(64))
            .pagemap_scan(Enabled::Auto);
        pool
    }
}

fn limit_u32(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

fn build_engine(pool: &Pool) -> wasmtime::Result<Engine> {
    let mut config = settings();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool.config()));
    match Engine::new(&config) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(
                error = format!("{error:#}"),
                "the host can't reserve a pool for plugins' memory; it allocates memory on demand"
            );
            Engine::new(&settings())
        }
    }
}

/// All settings that affect compiled code and the guest's semantics. Only features that a guest of `wit/` needs are
/// on.
fn settings() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false);
    config
}

/// The thread that advances the engines' epoch. It is not a task, because an executor that is busy with guests could
/// not run it.
struct Ticker {
    /// Dropped to stop the thread; an `Option` so that it can be dropped before the thread is joined.
    add: Option<SyncSender<EngineWeak>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: EngineWeak) -> Result<Self, RuntimeError> {
        let (add, added) = mpsc::sync_channel(4);
        let run = move || {
            let mut engines = vec![engine];
            loop {
                match added.recv_timeout(TICK) {
                    Ok(engine) => engines.push(engine),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {}
                }
                for engine in engines.iter().filter_map(EngineWeak::upgrade) {
                    engine.increment_epoch();
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("plugin-epoch".to_owned())
            .spawn(run)
            .map_err(RuntimeError::Thread)?;
        Ok(Self {
            add: Some(add),
            thread: Some(thread),
        })
    }

    fn add(&self, engine: EngineWeak) {
        if let Some(add) = &self.add {
            // It fails only when the thread has ended, which happens only in `drop`.
            let _sent = add.send(engine);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.add.take());
        if let Some(thread) = self.thread.take() {
            // The thread can't panic: it only waits and counts.
            let _joined = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Engines, ROOMY_MEMORY_MIB, STANDARD_MEMORY_MIB, compiler};
    use std::hash::{DefaultHasher, Hash, Hasher};

    #[test]
    fn both_tiers_and_the_compiler_agree_on_compiled_code() {
        let engines = Engines::start(4).unwrap();
        let roomy = engines.tier(STANDARD_MEMORY_MIB + 1).unwrap().unwrap();
        for engine in [&roomy.engine, &compiler().unwrap()] {
            let mut hasher = DefaultHasher::new();
            engine.precompile_compatibility_hash().hash(&mut hasher);
            assert_eq!(format!("{:016x}", hasher.finish()), engines.compatibility());
        }
        assert!(engines.tier(ROOMY_MEMORY_MIB + 1).unwrap().is_none());
    }

    #[test]
    fn the_epoch_moves_and_the_thread_ends_with_its_owner() {
        // Dropping joins the thread; if the thread did not end, this test would hang.
        drop(Engines::start(1).unwrap());
    }
}
