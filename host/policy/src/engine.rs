//! The engine: wasmtime, set up once, and how a component's bytes become code in it.
//!
//! Loading asks three places in turn: what was loaded last, the [`Cache`] of this node, the compiler. Code that is loaded
//! is native code, so each of the three is this node's own: the cache authenticates its files, and the compiler is this
//! program, in a process of its own for whatever somebody else wrote (`compile`).
//!
//! Invariant: one component is compiled at a time, so that two hostile ones do not add up.

use std::hash::{Hash as _, Hasher};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kernel::id::Digest;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures};

use crate::cache::Cache;
use crate::compile::child::{self, panic_words};
use crate::compile::{CompileError, Compiler};
use crate::sandbox::{EVALUATIONS, INSTANCES, MEMORIES, RESIDENT_BYTES, STACK_BYTES, TABLE_ELEMENTS, TABLES, Turns};

/// wasmtime, set up once; clones are cheap and share it.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    engine: wasmtime::Engine,
    turns: Arc<Turns>,
    pooled: bool,
    options: EngineOptions,
    fingerprint: Fingerprint,
    /// The component that was loaded last: whoever looks at one admits it next, and plays many cases with it.
    last: Mutex<Option<(Digest, Component)>>,
}

/// How an engine gets code.
#[derive(Debug, Default)]
pub struct EngineOptions {
    /// Compiles whatever is not the program's own.
    pub compiler: Compiler,
    /// Components that came with this program: nobody else wrote them, and they are compiled in this process, on all
    /// processors.
    pub own: Vec<Digest>,
    /// Where code is kept for the next start.
    pub cache: Option<Cache>,
}

/// What must be the same for code to be usable: the engine's version, its settings, the processor.
pub(crate) type Fingerprint = [u8; 32];

/// The engine cannot be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine does not start: {reason}")]
pub struct EngineError {
    reason: String,
}

/// The engine's name and version, as settlements record it: fuel is comparable within one version only.
#[must_use]
pub const fn engine_name() -> &'static str {
    "wasmtime 48.0.8"
}

impl Engine {
    /// An engine that compiles in this process and keeps nothing.
    ///
    /// # Errors
    /// As [`Engine::with`].
    pub fn new() -> Result<Self, EngineError> {
        Self::with(EngineOptions::default())
    }

    /// Sets up the engine and its ticker. Where address space is short (the pool reserves 64 GiB of it and uses little),
    /// memory is mapped for each evaluation, which is slower and otherwise the same.
    ///
    /// # Errors
    /// The machine cannot run wasmtime, or has no thread left.
    pub fn with(options: EngineOptions) -> Result<Self, EngineError> {
        let broken = |error: String| EngineError { reason: error };
        let pooled = wasmtime::Engine::new(&config(Some(pool()), true));
        let (engine, pooled) = match pooled {
            Ok(engine) => (engine, true),
            Err(_) => {
                let engine = wasmtime::Engine::new(&config(None, true));
                (engine.map_err(|error| broken(format!("{error:#}")))?, false)
            }
        };
        let turns = Arc::new(Turns::default());
        let ticked = engine.clone();
        let ticker = Arc::clone(&turns);
        thread::Builder::new()
            .name("policy-clock".into())
            .spawn(move || ticker.tick(&ticked))
            .map_err(|error| broken(error.to_string()))?;
        let fingerprint = fingerprint(&engine);
        let inner = Inner { engine, turns, pooled, options, fingerprint, last: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether evaluations share a pool of memory that stays mapped.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.inner.pooled
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.inner.turns
    }

    /// Makes a component's bytes usable. Waits while another one is compiled.
    pub(crate) fn load(&self, bytes: &[u8]) -> Result<Component, CompileError> {
        let digest = Digest::of(bytes);
        let mut last = self.inner.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, component)) = last.as_ref().filter(|(known, _)| *known == digest) {
            return Ok(component.clone());
        }
        let component = match self.cached(digest) {
            Some(component) => component,
            None => self.compile(digest, bytes)?,
        };
        *last = Some((digest, component.clone()));
        Ok(component)
    }

    fn cached(&self, digest: Digest) -> Option<Component> {
        let cache = self.inner.options.cache.as_ref()?;
        let code = cache.get(digest, &self.inner.fingerprint)?;
        match self.with_code(&code) {
            Ok(component) => Some(component),
            Err(why) => {
                cache.refuse(digest, &self.inner.fingerprint, &why);
                None
            }
        }
    }

    fn compile(&self, digest: Digest, bytes: &[u8]) -> Result<Component, CompileError> {
        let options = &self.inner.options;
        let cache = options.cache.as_ref();
        match &options.compiler {
            Compiler::Child(child) if !options.own.contains(&digest) => {
                let code = child.compile(bytes)?;
                let component = self.with_code(&code).map_err(CompileError::Refused)?;
                if let Some(cache) = cache {
                    cache.put(digest, &self.inner.fingerprint, &code);
                }
                Ok(component)
            }
            Compiler::Child(_) | Compiler::InProcess => {
                let component = self.compile_here(bytes)?;
                if let (Some(cache), Ok(code)) = (cache, component.serialize()) {
                    cache.put(digest, &self.inner.fingerprint, &code);
                }
                Ok(component)
            }
        }
    }

    fn compile_here(&self, bytes: &[u8]) -> Result<Component, CompileError> {
        let compile = || Component::from_binary(self.wasmtime(), bytes);
        thread::scope(|scope| {
            let compiler = thread::Builder::new().name("policy-compiler".into()).stack_size(child::STACK_BYTES);
            let compiler = compiler.spawn_scoped(scope, compile);
            let compiler = compiler.map_err(|error| CompileError::Host(format!("no thread to compile on: {error}")))?;
            match compiler.join() {
                Ok(compiled) => compiled.map_err(|error| CompileError::Refused(format!("{error:#}"))),
                Err(panic) => Err(CompileError::Panicked(panic_words(&*panic))),
            }
        })
    }

    /// Loads code that [`machine_code`] made. The engine refuses that of another version or other settings.
    #[allow(unsafe_code, reason = "loading native code cannot be checked by a type")]
    fn with_code(&self, code: &[u8]) -> Result<Component, String> {
        // SAFETY: the bytes come whole from this program's own compiler: from a child that runs this very program, through
        // a pipe that nobody else has, or from a file that carries this node's tag over all of them.
        unsafe { Component::deserialize(self.wasmtime(), code) }.map_err(|error| format!("{error:#}"))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("pooled", &self.inner.pooled).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.turns.stop();
    }
}

/// Compiles for another process of this program. Its engine has no pool: nothing runs here, and addresses are bounded.
pub(crate) fn machine_code(bytes: &[u8], parallel: bool) -> Result<Vec<u8>, String> {
    let engine = wasmtime::Engine::new(&config(None, parallel)).map_err(|error| format!("{error:#}"))?;
    engine.precompile_component(bytes).map_err(|error| format!("{error:#}"))
}

fn fingerprint(engine: &wasmtime::Engine) -> Fingerprint {
    struct Digested(Sha256);
    impl Hasher for Digested {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Digested(Sha256::new_with_prefix(engine_name()));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// Settings that decide what code is made are the same for every engine of this program; `parallel` and the pool are none.
fn config(pool: Option<PoolingAllocationConfig>, parallel: bool) -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config.consume_fuel(true);
    config.epoch_interruption(true);
    config.max_wasm_stack(STACK_BYTES);
    config.wasm_backtrace_max_frames(NonZeroUsize::new(16));
    config.parallel_compilation(parallel);
    // Places of instructions in the component's file, which nobody looks up: a trap names its functions.
    config.generate_address_map(false);
    // The bits of a NaN differ between processors.
    config.cranelift_nan_canonicalization(true);
    // Results that may differ between processors.
    config.wasm_relaxed_simd(false);
    // Needed by no guest that was tried; each is code that hostile bytes could reach.
    config.wasm_memory64(false);
    config.wasm_tail_call(false);
    config.wasm_wide_arithmetic(false);
    config.wasm_custom_page_sizes(false);
    config.wasm_stack_switching(false);
    for feature in [
        WasmFeatures::THREADS,
        WasmFeatures::EXCEPTIONS,
        WasmFeatures::GC,
        WasmFeatures::FUNCTION_REFERENCES,
        WasmFeatures::CM_ASYNC,
    ] {
        config.wasm_features(feature, false);
    }
    // Several memories stay allowed: the compiler's own adapters use them, and it panics where they are off.
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Room for [`EVALUATIONS`] of the largest components that the limits allow. A slot reserves 4 GiB of address space, all
/// that a guest can address, so every limit of guest memory fits.
fn pool() -> PoolingAllocationConfig {
    let all = |each: usize| u32::try_from(EVALUATIONS * each).unwrap_or(u32::MAX);
    let one = |each: usize| u32::try_from(each).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(all(1));
    pool.total_core_instances(all(INSTANCES));
    pool.total_memories(all(MEMORIES));
    pool.total_tables(all(TABLES));
    pool.max_core_instances_per_component(one(INSTANCES));
    pool.max_memories_per_component(one(MEMORIES));
    pool.max_tables_per_component(one(TABLES));
    pool.max_memories_per_module(one(MEMORIES));
    pool.max_tables_per_module(one(TABLES));
    // One more than allowed, so that the limit is what stops a guest and not the pool.
    pool.table_elements(TABLE_ELEMENTS as usize + 1);
    pool.max_memory_size(usize::try_from(1_u64 << 32).unwrap_or(usize::MAX));
    pool.linear_memory_keep_resident(RESIDENT_BYTES);
    pool.table_keep_resident(TABLE_ELEMENTS as usize * size_of::<usize>());
    pool
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_a_child_fits_the_engine_of_its_parent() {
        let pooled = wasmtime::Engine::new(&config(Some(pool()), true)).unwrap();
        let plain = wasmtime::Engine::new(&config(None, false)).unwrap();
        assert_eq!(fingerprint(&pooled), fingerprint(&plain));
        let mut other = config(None, false);
        other.consume_fuel(false);
        assert_ne!(fingerprint(&wasmtime::Engine::new(&other).unwrap()), fingerprint(&plain));
    }
}
