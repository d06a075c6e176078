//! The default rules from their bytes to ready: compiled in this process, in a child, and taken from a node's cache.

use std::hint::black_box;
use std::path::Path;

use anyhow::Result;
use kernel::decide::{LimitSettings, Slot};
use policy::{Cache, Child, CompileLimits, Compiler, Engine, EngineOptions};

use crate::figures::{Samples, print_head, print_target};

/// Slot, component, config.
const RULES: [(Slot, &[u8], &str); 2] = [
    (
        Slot::Ban,
        include_bytes!("../../../plugins/prebuilt/ban-strikes.wasm"),
        r#"{"ban":5,"ban_rounds":60,"suspend":3,"warn":2}"#,
    ),
    (Slot::Reward, include_bytes!("../../../plugins/prebuilt/reward-flat.wasm"), r#"{"points_per_round":10}"#),
];
const RUNS: usize = 25;
/// Tags the cache's files; in a node it is a secret drawn at its first start.
const KEY: [u8; 32] = [1; 32];

/// Measures and prints; returns whether all targets were met.
pub(crate) fn run() -> Result<bool> {
    let dir = tempfile::tempdir()?;
    let mut met = true;
    for (slot, bytes, config) in RULES {
        print_head(&format!("the default {slot} rule, {} bytes, to ready", bytes.len()));
        let here = time(slot, bytes, config, || EngineOptions { compiler: Compiler::InProcess, ..Default::default() })?;
        here.print("compiled in this process");
        let program = std::env::current_exe()?;
        time(slot, bytes, config, || {
            let arguments = vec![node::compiling::COMMAND.into()];
            let child = Child { program: program.clone(), arguments, limits: CompileLimits::default() };
            EngineOptions { compiler: Compiler::Child(child), ..Default::default() }
        })?
        .print("compiled in a child");
        // The first run of it fills the cache.
        prepared(slot, bytes, config, cached(dir.path()), &mut Samples::default())?;
        let from_cache = time(slot, bytes, config, || cached(dir.path()))?;
        from_cache.print("from the cache");
        met &= print_target("compiled in this process, median", here.ms(50), 50.0, "ms");
        met &= print_target("from the cache, median", from_cache.ms(50), 1.0, "ms");
    }
    Ok(met)
}

fn cached(dir: &Path) -> EngineOptions {
    let said = |file: &Path, why: &str| println!("{}: {why}", file.display());
    EngineOptions { cache: Some(Cache::new(dir.to_owned(), KEY, said)), ..Default::default() }
}

/// An engine keeps what it loaded last, so each run has a new one, which is not timed.
fn time(slot: Slot, bytes: &[u8], config: &str, options: impl Fn() -> EngineOptions) -> Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..RUNS {
        prepared(slot, bytes, config, options(), &mut samples)?;
    }
    Ok(samples)
}

fn prepared(slot: Slot, bytes: &[u8], config: &str, options: EngineOptions, samples: &mut Samples) -> Result<()> {
    let engine = Engine::with(options)?;
    let limits = LimitSettings::default();
    let prepared = samples.time(|| policy::prepare(&engine, slot, bytes, config, &limits));
    black_box(prepared.map_err(|findings| anyhow::anyhow!("{findings}"))?);
    Ok(())
}
