//! The WebAssembly engine: which features are on, how instances are pooled, how time is cut into ticks, what is kept
//! compiled on disk.
//!
//! Owns wasmtime's configuration and the ticker thread. Must not know slots or cameras.
//!
//! Pool. Each instance reserves 4 GiB of address space per memory plus guard, so that bounds are kept by page
//! protection instead of checks in code; only touched pages cost memory. `max_instances` = 1000 with one memory each
//! (two at most) reserves 2000 × 4 GiB = 8 TiB of the 128 TiB that x86-64 and aarch64 give. Tables: two a component
//! (its own and the one of the adapter that wit-component makes), 20,000 elements × 8 bytes each at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use facestream_core::SystemClock;
use sha2::{Digest, Sha256};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::cache::{CacheStats, CompiledCache};
use crate::compile::{Compiler, Turns};
use crate::config::GuestConfig;
use crate::error::EngineError;

/// Length of an epoch tick: the resolution of deadlines.
pub(crate) const TICK: Duration = Duration::from_millis(1);

/// Version of wasmtime, part of the cache key beside wasmtime's own compatibility hash.
const WASMTIME_LTS: &str = "wasmtime-48";

/// Core instances in one component: wit-component makes 3 (guest, shim, fix-ups) or 4 (an adapter for WASI 0.1);
/// componentize-py links one per shared library of CPython.
const CORE_INSTANCES_PER_COMPONENT: u32 = 60;

/// Memories in one component: the guest's, and one that an adapter may bring.
const MEMORIES_PER_COMPONENT: u32 = 2;

/// Tables in one component.
const TABLES_PER_COMPONENT: u32 = 8;

/// One engine a process: compiles components and makes instances. Cheap to clone.
#[derive(Clone)]
pub struct GuestEngine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    config: GuestConfig,
    cache: Option<CompiledCache>,
    compatibility: String,
    compiler: Option<Arc<dyn Compiler>>,
    turns: Turns,
    bounded: bool,
    metered: bool,
    ticker: Ticker,
}

impl std::fmt::Debug for GuestEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestEngine").field("max_instances", &self.inner.config.max_instances).finish_non_exhaustive()
    }
}

impl GuestEngine {
    /// Makes the engine and starts its ticker thread, which ends when the last clone is dropped.
    ///
    /// # Errors
    /// When the pool's address space cannot be reserved or the processor lacks something that is needed.
    pub fn new(config: &GuestConfig) -> Result<Self, EngineError> {
        Self::make(config, true, false, None)
    }

    /// The same, compiling by `compiler` instead of on the thread that loads a component.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_compiler(config: &GuestConfig, compiler: Arc<dyn Compiler>) -> Result<Self, EngineError> {
        Self::make(config, true, false, Some(compiler))
    }

    /// Without deadlines and without limits on memory and transfers: what those cost is measured against it. A guest
    /// that loops is never cut; nothing but a benchmark may call this.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[doc(hidden)]
    pub fn unbounded_for_measurement(config: &GuestConfig) -> Result<Self, EngineError> {
        Self::make(config, false, false, None)
    }

    /// An engine that also counts fuel: about one unit an instruction, the same on every machine and in every run. Two to
    /// three times as slow, so it is for test kits and replays; cameras run on one made by [`Self::new`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn metered(config: &GuestConfig) -> Result<Self, EngineError> {
        Self::make(config, true, true, None)
    }

    fn make(
        config: &GuestConfig,
        bounded: bool,
        metered: bool,
        compiler: Option<Arc<dyn Compiler>>,
    ) -> Result<Self, EngineError> {
        let mut wasmtime = compiler_config();
        wasmtime.allocation_strategy(pool(config));
        wasmtime.epoch_interruption(bounded);
        wasmtime.consume_fuel(metered);
        let engine = Engine::new(&wasmtime).map_err(|e| EngineError(format!("{e:#}")))?;
        let compatibility = compatibility(&engine);
        let open =
            |dir| CompiledCache::new(dir, &compatibility, config.cache_max_bytes, Arc::new(SystemClock::default()));
        let cache = config.cache_dir.clone().map(open);
        let ticker = Ticker::start(engine.clone())?;
        let (config, turns) = (config.clone(), Turns::default());
        let inner = Inner { engine, config, cache, compatibility, compiler, turns, bounded, metered, ticker };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn config(&self) -> &GuestConfig {
        &self.inner.config
    }

    /// Guest instances that live right now, over all cameras: for metrics and leak tests.
    #[must_use]
    pub fn live_instances(&self) -> u64 {
        self.inner.engine.pooling_allocator_metrics().map_or(0, |m| m.component_instances())
    }

    /// What is kept compiled on disk; nothing without a folder for it.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.cache().map(CompiledCache::stats).unwrap_or_default()
    }

    /// Whether it counts fuel.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.inner.metered
    }

    /// Lets the epoch advance as long as what it returns lives: whoever makes a store holds one.
    pub(crate) fn ticking(&self) -> Ticking {
        self.inner.ticker.begin();
        Ticking(self.clone())
    }

    pub(crate) fn wasmtime(&self) -> &Engine {
        &self.inner.engine
    }

    /// Whether calls have deadlines and limits: always, but in measurements.
    pub(crate) fn bounded(&self) -> bool {
        self.inner.bounded
    }

    pub(crate) fn compatibility(&self) -> &str {
        &self.inner.compatibility
    }

    pub(crate) fn compiler(&self) -> Option<&dyn Compiler> {
        self.inner.compiler.as_deref()
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    pub(crate) fn cache(&self) -> Option<&CompiledCache> {
        self.inner.cache.as_ref()
    }
}

/// Everything that decides whether machine code of one engine runs on another.
fn compatibility(engine: &Engine) -> String {
    struct HashInto(Sha256);
    impl std::hash::Hasher for HashInto {
        fn finish(&self) -> u64 {
            0 // Not asked for: the digest is read instead.
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = HashInto(Sha256::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut hasher);
    let digest = hasher.0.finalize();
    format!("{WASMTIME_LTS}-{}", crate::digest::hex(&digest[..8]))
}

/// An engine that makes the same machine code as [`GuestEngine`]s do, without a pool (which reserves terabytes of address
/// space) and without a ticker; and what it makes code for.
pub(crate) fn child_engine(metered: bool) -> wasmtime::Result<(Engine, String)> {
    let mut config = compiler_config();
    config.epoch_interruption(true);
    config.consume_fuel(metered);
    let engine = Engine::new(&config)?;
    let compatibility = compatibility(&engine);
    Ok((engine, compatibility))
}

/// Everything that machine code depends on.
fn compiler_config() -> Config {
    let mut c = Config::new();
    c.wasm_component_model(true);
    // Off: what guests do not need. Fewer features, fewer advisories that apply. Threads, garbage collection and
    // exceptions are not even compiled in (features of the crate wasmtime), component async neither.
    c.concurrency_support(false);
    c.shared_memory(false);
    c.wasm_memory64(false);
    c.wasm_multi_memory(false);
    c.wasm_tail_call(false);
    c.wasm_relaxed_simd(false);
    c.wasm_wide_arithmetic(false);
    c.wasm_custom_page_sizes(false);
    // Off: it would put a comparison behind every float operation, to make the bits inside a NaN the same on all kinds
    // of processors. No answer with a NaN in it is believed (see `validate`), so those bits reach nothing.
    c.cranelift_nan_canonicalization(false);
    c.cranelift_opt_level(OptLevel::Speed);
    c.parallel_compilation(true);
    c.memory_init_cow(true);
    c.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    c.max_wasm_stack(512 * 1024);
    c
}

fn pool(config: &GuestConfig) -> InstanceAllocationStrategy {
    let n = config.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(n);
    pool.total_core_instances(n.saturating_mul(8).max(CORE_INSTANCES_PER_COMPONENT * 4));
    pool.total_memories(n.saturating_mul(MEMORIES_PER_COMPONENT));
    pool.total_tables(n.saturating_mul(3).max(TABLES_PER_COMPONENT * 4));
    pool.max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT);
    pool.max_memories_per_component(MEMORIES_PER_COMPONENT);
    pool.max_tables_per_component(TABLES_PER_COMPONENT);
    pool.max_memories_per_module(1);
    pool.max_tables_per_module(4);
    pool.max_memory_size(usize::try_from(config.largest_memory_bytes).unwrap_or(usize::MAX));
    pool.table_elements(20_000);
    pool.max_core_instance_size(4 * 1024 * 1024);
    pool.max_component_instance_size(4 * 1024 * 1024);
    // Slots that no longer run keep no memory: a guest that once used 64 MiB must not cost them after it was removed.
    pool.linear_memory_keep_resident(0);
    pool.table_keep_resident(0);
    pool.max_unused_warm_slots(32);
    // Freed at once, not in batches: memory is back when the instance is gone.
    pool.decommit_batch_size(1);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Keeps an engine, and its epoch advancing.
pub(crate) struct Ticking(GuestEngine);

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.inner.ticker.clock.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Advances the engine's epoch every [`TICK`] while anything runs that may have to be cut (a host without cameras need not
/// wake a thousand times a second). A late tick only makes a deadline later, never earlier.
struct Ticker {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

/// What the ticker's thread looks at.
#[derive(Default)]
struct Clock {
    stop: AtomicBool,
    /// [`Ticking`]s that live.
    users: AtomicUsize,
}

impl Ticker {
    fn start(engine: Engine) -> Result<Self, EngineError> {
        let clock = Arc::new(Clock::default());
        let seen = Arc::clone(&clock);
        let thread = std::thread::Builder::new()
            .name("guest-ticker".to_owned())
            .spawn(move || {
                while !seen.stop.load(Ordering::Relaxed) {
                    if seen.users.load(Ordering::Relaxed) == 0 {
                        // Returns at once when the first user came since.
                        std::thread::park();
                        continue;
                    }
                    std::thread::sleep(TICK);
                    engine.increment_epoch();
                }
            })
            .map_err(|e| EngineError(format!("starting the ticker thread: {e}")))?;
        Ok(Self { clock, thread: Some(thread) })
    }

    fn begin(&self) {
        if self.clock.users.fetch_add(1, Ordering::Relaxed) == 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.clock.stop.store(true, Ordering::Relaxed);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It cannot panic; and if it did, there is nothing left to stop.
            let _joined = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticker_ends_with_the_engine() {
        let engine = GuestEngine::new(&GuestConfig { max_instances: 4, ..GuestConfig::default() }).unwrap();
        let clock = Arc::clone(&engine.inner.ticker.clock);
        drop(engine.clone());
        assert!(!clock.stop.load(Ordering::Relaxed), "a clone still needs it");
        let ticking = engine.ticking();
        drop(engine);
        assert!(!clock.stop.load(Ordering::Relaxed), "a store still needs it");
        drop(ticking);
        assert!(clock.stop.load(Ordering::Relaxed));
        assert_eq!(Arc::strong_count(&clock), 1, "the thread has gone and given its handle back");
    }

    /// `inspect` refuses these before; should it ever not, the engine does, too.
    #[test]
    fn the_engine_itself_refuses_features_that_guests_do_not_need() {
        let engine = GuestEngine::new(&GuestConfig { max_instances: 1, ..GuestConfig::default() }).unwrap();
        let (child, _) = child_engine(false).unwrap();
        let compiles = |engine: &Engine, text: &str| {
            let bytes = wat::parse_str(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            wasmtime::component::Component::new(engine, bytes).is_ok()
        };
        for engine in [engine.wasmtime(), &child] {
            assert!(compiles(
                engine,
                "(component (core module $m (memory 1) (func (result v128) (v128.const i64x2 0 0))))"
            ));
            for module in [
                "(memory 1 1 shared)",
                "(memory i64 1)",
                "(memory 1) (memory 1)",
                "(tag)",
                "(type (struct (field i32)))",
                "(func $f return_call $f)",
                "(func (result v128) (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0)))",
                "(func (param i64 i64 i64 i64) (result i64 i64) (i64.add128 (local.get 0) (local.get 1) (local.get 2) (local.get 3)))",
            ] {
                assert!(!compiles(engine, &format!("(component (core module $m {module}))")), "{module}");
            }
            assert!(!compiles(engine, "(component (core func (canon task.cancel)))"));
        }
    }

    #[test]
    fn the_epoch_advances_while_there_is_something_to_cut() {
        let engine = GuestEngine::new(&GuestConfig { max_instances: 4, ..GuestConfig::default() }).unwrap();
        for _ in 0..3 {
            let ticking = engine.ticking();
            let mut store = wasmtime::Store::new(engine.wasmtime(), ());
            store.set_epoch_deadline(2);
            let endless = wat::parse_str(r#"(module (func (export "f") (loop (br 0))))"#).unwrap();
            let module = wasmtime::Module::new(engine.wasmtime(), endless).unwrap();
            let instance = wasmtime::Instance::new(&mut store, &module, &[]).unwrap();
            let endless = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
            let trap = endless.call(&mut store, ()).unwrap_err();
            assert_eq!(trap.downcast_ref(), Some(&wasmtime::Trap::Interrupt), "also after a pause: it has begun again");
            drop(ticking);
            assert_eq!(engine.inner.ticker.clock.users.load(Ordering::Relaxed), 0);
        }
    }
}
