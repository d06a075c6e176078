//! The child's side: limits first, then the component, then one answer.

use std::any::Any;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::process::ExitCode;
use std::thread;

use kernel::limits::COMPONENT_BYTES;
use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use super::{CompileLimits, Said, THREADS, say};
use crate::engine;

/// What a parent writes first: magic, processor time, address space, length of the component.
const ASK_MAGIC: [u8; 4] = *b"PWQ1";
const ASK_HEAD: usize = 4 + 4 + 8 + 4;
/// How far it stands back behind the rounds.
const NICE: i32 = 10;
/// Stack of the thread that compiles: parsers and compilers recurse with the depth of their input.
pub(crate) const STACK_BYTES: usize = 64 << 20;

/// The parent's side of the question.
pub(crate) fn ask(mut to: impl Write, limits: &CompileLimits, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&ASK_MAGIC)?;
    to.write_all(&limits.cpu_s.to_le_bytes())?;
    to.write_all(&limits.memory_bytes.to_le_bytes())?;
    to.write_all(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// Compiles one component for the parent process: a question on standard input, an answer on standard output. This is what
/// the program of a [`Child`](super::Child) calls before anything else; it limits the process for good.
#[must_use]
pub fn compile_for_parent() -> ExitCode {
    let (said, bytes) = match asked() {
        Ok(bytes) => compile(bytes),
        Err(error) => (Said::Host, error.to_string().into_bytes()),
    };
    match say(io::stdout().lock(), said, &bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Reads what is asked; the limits are in force before the first byte of the component is read.
fn asked() -> io::Result<Vec<u8>> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "this command is started by a node, not by hand");
    let mut from = io::stdin().lock();
    let mut head = [0; ASK_HEAD];
    from.read_exact(&mut head).map_err(|_| strange())?;
    let [m0, m1, m2, m3, c0, c1, c2, c3, a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3] = head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if [m0, m1, m2, m3] != ASK_MAGIC || length > COMPONENT_BYTES {
        return Err(strange());
    }
    limit(u32::from_le_bytes([c0, c1, c2, c3]), u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]))?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn limit(cpu_s: u32, memory_bytes: u64) -> io::Result<()> {
    close_all_but_stdio();
    // Where memory runs out, it is this process that the system ends, and not the node. Only Linux has that.
    let _where_there_is_one = std::fs::write("/proc/self/oom_score_adj", "1000");
    #[cfg(target_os = "linux")]
    {
        // It has no work left when nobody waits for it.
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    }
    nice(NICE)?;
    lower(Resource::Core, 0, 0)?;
    lower(Resource::Fsize, 0, 0)?;
    // The three that it has.
    lower(Resource::Nofile, 3, 3)?;
    // A second later it is killed, should the signal of the first limit be ignored here.
    lower(Resource::Cpu, u64::from(cpu_s), u64::from(cpu_s) + 1)?;
    lower(Resource::As, memory_bytes, memory_bytes)
}

/// Sets a limit for good; one that is lower already stays.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit { current: Some(soft.min(most)), maximum: Some(hard.min(most)) };
    Ok(setrlimit(resource, limit)?)
}

/// Files that whoever started the node left open for it. Ours are closed by the start of this program.
#[allow(unsafe_code, reason = "closing what nobody in this process has a handle of")]
fn close_all_but_stdio() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // One of them was the listing's own, and is closed already.
        if !std::fs::exists(format!("/proc/self/fd/{fd}")).unwrap_or(false) {
            continue;
        }
        // SAFETY: this process has only just begun, has one thread, and has opened nothing itself, so no handle owns this.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

fn compile(bytes: Vec<u8>) -> (Said, Vec<u8>) {
    // Kept for the answer instead of printed.
    std::panic::set_hook(Box::new(|_| {}));
    let parallel = std::env::var(THREADS).is_ok_and(|threads| threads != "1");
    let work = move || engine::machine_code(&bytes, parallel);
    let compiler = thread::Builder::new().name("policy-compiler".into()).stack_size(STACK_BYTES);
    let compiler = match compiler.spawn(work) {
        Ok(compiler) => compiler,
        Err(error) => return (Said::Host, format!("no thread to compile on: {error}").into_bytes()),
    };
    match compiler.join() {
        Ok(Ok(artefact)) => (Said::Artefact, artefact),
        Ok(Err(why)) => (Said::Refused, why.into_bytes()),
        Err(panic) => (Said::Panicked, panic_words(&*panic).into_bytes()),
    }
}

/// What a panic said.
pub(crate) fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".into())
}
