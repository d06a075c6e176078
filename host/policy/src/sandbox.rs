//! The walls around one evaluation.
//!
//! Fuel is the limit of record: the same call uses the same fuel on every machine. The wall clock (wasmtime's epochs) is
//! the net for what fuel does not count. Memory, tables, instances, stack, data out and log lines are bounded each by
//! their own wall, and whichever is hit becomes a fault with its kind.
//!
//! The thread that evaluates needs [`STACK_BYTES`] of stack left besides what the host uses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use kernel::decide::{Fault, FaultKind, LogLine, PolicyLimits, Run};
use wasmtime::{ResourceLimiter, Store, Trap, WasmBacktrace};

use crate::compile::child::panic_words;
pub(crate) use crate::engine::{Engine, engine_name};
use crate::text::escape;

/// Stack of a guest: deep enough for honest rules, and what deep recursion runs into.
pub const STACK_BYTES: usize = 512 << 10;
/// Tables of one evaluation, elements in sum: honest guests have some hundred.
pub(crate) const TABLE_ELEMENTS: u64 = 10_000;
/// Memories of one evaluation: components made of several modules have one each.
pub(crate) const MEMORIES: usize = 4;
/// Tables of one evaluation.
pub(crate) const TABLES: usize = 16;
/// Core instances of one evaluation: Python needs 33 and more.
pub(crate) const INSTANCES: usize = 64;
/// Evaluations at the same time; more wait their turn. The pool has room for all of them.
pub(crate) const EVALUATIONS: usize = 4;
/// Guest memory that stays mapped between evaluations, of each memory as far as it was used: touching fresh pages costs
/// more than clearing known ones (1,000,000 members: 31 ns each with 16 MiB of it, 19 with all that they need). The price
/// is that a rule which uses its whole limit keeps that much of the node's memory.
pub(crate) const RESIDENT_BYTES: usize = 128 << 20;
/// The beat of the wall clock.
const BEAT: Duration = Duration::from_millis(5);
/// What a log line costs besides its text, so that empty lines are bounded too.
const LINE_BYTES: u64 = 16;
/// Functions that a trap names.
const FRAMES: usize = 3;

impl Engine {
    /// Runs `guest` in a store of its own with every limit set before anything of the guest runs.
    ///
    /// A panic of the host in it is a fault of this one evaluation: its store is thrown away and nothing else shares it.
    /// The kind is [`FaultKind::NotPrepared`], because a bug of the engine or of its glue on this machine must not count
    /// against a policy; whoever reads the log sees that it was a panic.
    pub(crate) fn run<T>(
        &self,
        limits: &PolicyLimits,
        guest: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Result<T, String>>,
    ) -> Run<T> {
        // Ends after the store has given its memory back: the next one needs that place in the pool.
        let _turn = self.turns().enter();
        catch_unwind(AssertUnwindSafe(|| self.run_in_store(limits, guest))).unwrap_or_else(|panic| {
            let text = escape(&panic_words(&*panic), Fault::MESSAGE_BYTES);
            let what = format!("the host panicked during the call: {text}");
            Run { result: Err(Fault::new(FaultKind::NotPrepared, &what)), fuel: 0, log: Vec::new() }
        })
    }

    fn run_in_store<T>(
        &self,
        limits: &PolicyLimits,
        guest: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<Result<T, String>>,
    ) -> Run<T> {
        let mut store = Store::new(self.wasmtime(), Guest::new(limits));
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(usize::try_from(limits.output_bytes).unwrap_or(usize::MAX));
        let beats = limits.deadline_ms.div_ceil(BEAT.as_millis() as u64);
        store.set_epoch_deadline(beats.saturating_add(1));
        // Fuel is off in no config of ours, so this cannot fail; if it did, the store has none and the guest traps.
        let _ = store.set_fuel(limits.fuel);
        let outcome = guest(&mut store);
        let fuel = limits.fuel.saturating_sub(store.get_fuel().unwrap_or_default());
        let guest = store.into_data();
        let result = match outcome {
            Ok(Ok(decision)) => Ok(decision),
            Ok(Err(refusal)) => Err(Fault::new(FaultKind::Refused, &refusal)),
            Err(error) => Err(guest.fault(&error, limits)),
        };
        Run { result, fuel, log: guest.log.lines }
    }
}

/// How many evaluations run. The clock beats only while one does.
#[derive(Default)]
pub(crate) struct Turns {
    state: Mutex<Running>,
    changed: Condvar,
}

#[derive(Default)]
struct Running {
    evaluations: usize,
    stopped: bool,
}

struct Turn<'a>(&'a Turns);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self) -> Turn<'_> {
        let full = |running: &mut Running| running.evaluations >= EVALUATIONS;
        let mut running = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        running.evaluations += 1;
        self.changed.notify_all();
        Turn(self)
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn tick(&self, engine: &wasmtime::Engine) {
        loop {
            let idle = |running: &mut Running| running.evaluations == 0 && !running.stopped;
            let running = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if running.stopped {
                return;
            }
            drop(running);
            thread::sleep(BEAT);
            engine.increment_epoch();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().evaluations -= 1;
        self.0.changed.notify_all();
    }
}

/// What the host keeps of one evaluation.
pub(crate) struct Guest {
    limiter: Limiter,
    log: Log,
}

impl Guest {
    fn new(limits: &PolicyLimits) -> Self {
        Self {
            limiter: Limiter {
                memory_max: limits.memory_bytes,
                memory: 0,
                table_elements: 0,
                denied: None,
                ours: None,
            },
            log: Log { lines: Vec::new(), left: limits.log_bytes, over: false, last_error: None },
        }
    }

    /// The guest calls `log.write`. Past the limit it is stopped.
    pub(crate) fn write(&mut self, level: u8, message: &str) -> wasmtime::Result<()> {
        let level = level.min(4);
        if level == 4 {
            self.log.last_error = Some(escape(message, Fault::MESSAGE_BYTES));
        }
        let cost = (message.len() as u64).saturating_add(LINE_BYTES);
        let Some(left) = self.log.left.checked_sub(cost) else {
            self.log.over = true;
            return Err(wasmtime::Error::msg("it wrote too much to `log`"));
        };
        self.log.left = left;
        self.log.lines.push(LogLine { level, message: escape(message, usize::MAX) });
        Ok(())
    }

    fn fault(&self, error: &wasmtime::Error, limits: &PolicyLimits) -> Fault {
        let (kind, text) = self.cause(error, limits);
        let mut text = text;
        if let Some(said) = self.log.last_error.as_ref().filter(|_| kind == FaultKind::Log) {
            text.push_str("; its last words: ");
            text.push_str(said);
        }
        let place = frames(error);
        if !place.is_empty() {
            text.push_str(" (in ");
            text.push_str(&place);
            text.push(')');
        }
        Fault::new(kind, &text)
    }

    fn cause(&self, error: &wasmtime::Error, limits: &PolicyLimits) -> (FaultKind, String) {
        if let Some(ours) = &self.limiter.ours {
            return (FaultKind::NotPrepared, ours.clone());
        }
        if let Some(denied) = &self.limiter.denied {
            return (FaultKind::Memory, denied.clone());
        }
        if self.log.over {
            return (FaultKind::Log, format!("it wrote more than {} bytes to `log`", limits.log_bytes));
        }
        if error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some() {
            return (FaultKind::NotPrepared, "the host has no room for another evaluation".into());
        }
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => (
                FaultKind::Fuel,
                format!("it used up its {} units of fuel: an endless loop, or too much work", limits.fuel),
            ),
            Some(Trap::Interrupt) => {
                (FaultKind::Deadline, format!("it took longer than {} ms of wall clock", limits.deadline_ms))
            }
            Some(Trap::StackOverflow) => {
                (FaultKind::Stack, format!("it recursed deeper than {} KiB of stack", STACK_BYTES >> 10))
            }
            Some(Trap::UnreachableCodeReached) => {
                let panic = self.log.last_error.clone();
                let silent = "it stopped itself (`unreachable`) and logged no reason";
                (FaultKind::Trap, panic.unwrap_or_else(|| silent.into()))
            }
            Some(trap) => (FaultKind::Trap, trap.to_string().trim_start_matches("wasm trap: ").to_string()),
            None => untyped(error, limits),
        }
    }
}

/// Errors that wasmtime tells apart by their text alone.
fn untyped(error: &wasmtime::Error, limits: &PolicyLimits) -> (FaultKind, String) {
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        return (FaultKind::Output, format!("it handed out more than {} bytes of data", limits.output_bytes));
    }
    if text.contains("resource limit exceeded") {
        return (FaultKind::Memory, format!("it has more memories, tables or instances than allowed: {text}"));
    }
    (FaultKind::Trap, text)
}

/// The functions where it happened, innermost first, without the machinery of panics.
fn frames(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let names = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    let names = names.map(|name| format!("{:#}", rustc_demangle::demangle(name)));
    let machinery = ["core::", "std::", "alloc::", "<core::", "<std::", "<alloc::", "rust_", "_"];
    // What the export macros and the canonical ABI put around a rule.
    let wrapping = ["pingward:policy/", "::_::Component"];
    let names: Vec<String> = names
        .filter(|name| !machinery.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|name| !wrapping.iter().any(|part| name.contains(part)))
        .take(FRAMES)
        .map(|name| escape(&name, 120))
        .collect();
    names.join(" ← ")
}

/// Counts what the guest takes. All memories and all tables count together.
struct Limiter {
    memory_max: u64,
    memory: u64,
    table_elements: u64,
    /// The limit that it hit.
    denied: Option<String>,
    /// The host could not give what it had promised.
    ours: Option<String>,
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let total = self.memory.saturating_add((desired.saturating_sub(current)) as u64);
        if total > self.memory_max {
            let text = format!("it wants {total} bytes of memory and may have {}", self.memory_max);
            self.denied = Some(text.clone());
            // A guest that is told "no" may go on in another way: the limit must end it, the same everywhere.
            return Err(wasmtime::Error::msg(text));
        }
        self.memory = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.ours = Some(format!("the host could not give it memory: {error:#}"));
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add((desired.saturating_sub(current)) as u64);
        if total > TABLE_ELEMENTS {
            let text = format!("it wants {total} table elements and may have {TABLE_ELEMENTS}");
            self.denied = Some(text.clone());
            return Err(wasmtime::Error::msg(text));
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

struct Log {
    lines: Vec<LogLine>,
    left: u64,
    over: bool,
    /// Last line of level 4: a panic's own text.
    last_error: Option<String>,
}

#[cfg(test)]
mod tests {
    use kernel::decide::LimitSettings;
    use kernel::settings::Settings;

    use super::*;

    #[test]
    fn a_panic_of_the_host_is_a_fault_of_one_evaluation_and_never_counts_against_its_policy() {
        let engine = Engine::new().unwrap();
        let limits: LimitSettings = Settings::default().policy_limits();
        let limits = limits.scaled(0, 0, 0);
        // More often than there are turns: each one is given back.
        for _ in 0..=EVALUATIONS {
            let run = engine.run::<()>(&limits, |_| panic!("planted"));
            let fault = run.result.unwrap_err();
            assert_eq!(fault.kind, FaultKind::NotPrepared);
            assert!(!fault.kind.is_deterministic() && fault.message.contains("planted"), "{fault}");
        }
        assert!(engine.run(&limits, |_| Ok(Ok(()))).result.is_ok());
    }
}
