//! Machine code of components, made in a process of its own where somebody else wrote the component.
//!
//! Running a guest is metered, compiling it is not: a file within every bound of its own can keep a compiler busy for minutes
//! or have it take gigabytes, and parsers and compilers are large programs that may have bugs. So a component of somebody
//! else is compiled by a [`Child`], the same program started again, which limits itself before it reads a byte (`child`). Its
//! parent waits for so long, kills it, reaps it, reads no more of it than is agreed, and says what became of it.
//!
//! The child's answer is machine code that the parent loads: the parent trusts its own program, and the component never.
//!
//! Not here, on purpose: a filter of system calls. The child can open no file and holds nothing but three pipes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use kernel::id::Digest;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::finding::Findings;
use crate::text::escape;

pub(crate) mod child;

/// Machine code of one component, bytes: ten times that of the largest honest one that was tried at the bound on components.
pub const ARTEFACT_BYTES: usize = 64 << 20;
/// All of a child's environment: where its engine's library for threads reads how many there are to be.
pub(crate) const THREADS: &str = "RAYON_NUM_THREADS";
/// What is kept of a child's standard error.
const WORDS_BYTES: u64 = 4 << 10;
/// What is shown of it.
const SHOWN_BYTES: usize = 300;
/// How long a child that has closed its pipe without an answer may take to end.
const END: Duration = Duration::from_secs(2);
/// How often its end is looked for.
const LOOK: Duration = Duration::from_millis(1);

/// How components of others become machine code.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// In this process: nothing bounds it but the component's size. For tests, and for tools that measure.
    #[default]
    InProcess,
    /// In a process that can be killed.
    Child(Child),
}

/// A program that calls [`compile_for_parent`](crate::compile_for_parent) when it is started with these arguments.
#[derive(Clone, Debug)]
pub struct Child {
    /// The program. It must have this very engine in it: the best one is the running program itself.
    pub program: PathBuf,
    /// What makes it a compiler.
    pub arguments: Vec<OsString>,
    /// What it may use.
    pub limits: CompileLimits,
}

/// What compiling one component may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Address space, bytes; the program itself and the compiler's stack count.
    pub memory_bytes: u64,
    /// Processor time, s.
    pub cpu_s: u32,
    /// Wall clock. A machine with other work gives the compiler, which stands back, less than a whole processor.
    pub wall: Duration,
    /// Threads. A node gives it one, so that the others stay with the rounds; an author at a terminal gives it more.
    pub threads: u8,
}

impl Default for CompileLimits {
    fn default() -> Self {
        // The largest honest rule that was tried, JavaScript with its interpreter (1.7 MB), takes 5 s and 256 MiB.
        Self { memory_bytes: 1 << 30, cpu_s: 20, wall: Duration::from_secs(60), threads: 1 }
    }
}

/// Why there is no machine code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CompileError {
    /// Parser, validator or compiler say no, in their words.
    Refused(String),
    /// The compiler panicked, which is a bug of it.
    Panicked(String),
    /// It wanted more memory than this.
    Memory { bytes: u64 },
    /// It wanted more processor time than this.
    Cpu { s: u32 },
    /// It was not done by then.
    Deadline { wall: Duration },
    /// More machine code than one component may have.
    TooBig { bytes: u64 },
    /// It ended otherwise than by an answer.
    Crashed(String),
    /// It could not begin, or could not be spoken to: the fault of this machine.
    Host(String),
}

impl CompileError {
    /// As what keeps the component out.
    pub(crate) fn findings(&self) -> Findings {
        let smaller =
            "make it of fewer and smaller functions; what is generated rather than written is the usual cause";
        let bug = "no component should do that to a compiler: build it in another way, and report it with the file";
        let (what, cure) = match self {
            // The pool has room for the largest component that may be, and says where another one is larger.
            Self::Refused(why) if why.contains("pooling allocator") => {
                let what = format!("it needs more than a policy may have: {}", escape(why, SHOWN_BYTES));
                return Findings::one("resources", what, "make it of fewer and smaller parts");
            }
            Self::Refused(why) => {
                let what = format!("it does not decode: {}", escape(why, SHOWN_BYTES));
                let cure = "copy the file again if it is damaged; else build it for wasm32-unknown-unknown";
                return Findings::one("decode", what, cure);
            }
            Self::Panicked(why) => (format!("the compiler gave up on it: {}", escape(why, SHOWN_BYTES)), bug),
            Self::Memory { bytes } => {
                (format!("compiling it takes more than the {} MiB of memory that it may have", bytes >> 20), smaller)
            }
            Self::Cpu { s } => {
                (format!("compiling it takes more than the {s} s of processor time that it may have"), smaller)
            }
            Self::Deadline { wall } => (
                format!("compiling it was not done after {} s", wall.as_secs_f32()),
                "make it of fewer and smaller functions, or try again when the machine has less to do",
            ),
            Self::TooBig { bytes } => {
                (format!("its machine code has {bytes} bytes, and may have {ARTEFACT_BYTES}"), smaller)
            }
            Self::Crashed(how) => (format!("the compiler fell over it: {}", escape(how, SHOWN_BYTES)), bug),
            Self::Host(why) => (
                format!("this machine could not compile it: {}", escape(why, SHOWN_BYTES)),
                "the component may be good: look at the machine's memory and processes, then try again",
            ),
        };
        Findings::one("compile", what, cure)
    }
}

/// What a child says, and how it is written: magic, what it is, length, SHA-256, bytes.
pub(crate) const ANSWER_MAGIC: [u8; 4] = *b"PWA1";
const ANSWER_HEAD: usize = 4 + 1 + 8 + 32;

/// What a child can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Said {
    /// Machine code.
    Artefact = 0,
    /// Why the component was refused.
    Refused = 1,
    /// What the compiler said when it panicked.
    Panicked = 2,
    /// Why the compiler did not begin.
    Host = 3,
}

impl Child {
    /// Compiles in a new process. Returns when that is over and reaped.
    pub(crate) fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, CompileError> {
        let host = |error: io::Error| CompileError::Host(format!("{} does not start: {error}", self.program.display()));
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().current_dir("/");
        command.env(THREADS, self.limits.threads.to_string());
        // A group of its own: whoever types Ctrl-C means the parent, and the whole group can be killed.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().map_err(host)?);
        let pipes = (running.0.stdin.take(), running.0.stdout.take(), running.0.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(CompileError::Host("its pipes are not there".into()));
        };
        let limits = self.limits;
        thread::scope(|scope| {
            let answered = (|| {
                helper(scope, move || child::ask(stdin, &limits, bytes))?;
                let words = helper(scope, move || first_words(stderr))?;
                let (tell, told) = mpsc::sync_channel(1);
                helper(scope, move || tell.send(answer(stdout)))?;
                Ok::<_, io::Error>((told.recv_timeout(limits.wall), words))
            })();
            // How it ends matters only where it said nothing. Whatever comes next, the pipes must close, or the helpers would
            // wait for ever.
            let silent = matches!(answered, Ok((Ok(Err(Unread::Nothing(_))), _)));
            let status = running.end(if silent { END } else { Duration::ZERO });
            let (answer, words) = answered.map_err(|error| CompileError::Host(error.to_string()))?;
            let words = words.join().unwrap_or_default();
            match answer {
                Err(_) => Err(CompileError::Deadline { wall: limits.wall }),
                Ok(Ok((Said::Artefact, artefact))) => Ok(artefact),
                Ok(Ok((said, why))) => Err(refusal(said, &String::from_utf8_lossy(&why), &limits)),
                Ok(Err(Unread::TooBig(bytes))) => Err(CompileError::TooBig { bytes }),
                Ok(Err(Unread::Nothing(what))) => Err(crashed(status, &words, what, &limits)),
            }
        })
    }
}

fn refusal(said: Said, why: &str, limits: &CompileLimits) -> CompileError {
    match said {
        Said::Refused => CompileError::Refused(why.into()),
        Said::Host => CompileError::Host(why.into()),
        Said::Artefact | Said::Panicked => match why.contains("Cannot allocate memory") {
            true => CompileError::Memory { bytes: limits.memory_bytes },
            false => CompileError::Panicked(why.into()),
        },
    }
}

/// What happened to a child that gave no answer; `None`: it was killed here.
fn crashed(status: io::Result<Option<ExitStatus>>, words: &str, what: &str, limits: &CompileLimits) -> CompileError {
    let status = match status {
        Ok(Some(status)) => status,
        Ok(None) => return CompileError::Crashed(format!("{what}, and did not end")),
        Err(error) => return CompileError::Host(format!("its end is not known: {error}")),
    };
    let signal = status.signal();
    if signal == Some(Signal::XCPU.as_raw()) {
        return CompileError::Cpu { s: limits.cpu_s };
    }
    // What the allocator says before it aborts.
    if signal == Some(Signal::ABORT.as_raw()) && words.contains("memory allocation of ") {
        return CompileError::Memory { bytes: limits.memory_bytes };
    }
    let words = words.trim();
    CompileError::Crashed(match words.is_empty() {
        false => format!("{what}: {status}: {words}"),
        true if signal == Some(Signal::KILL.as_raw()) => {
            format!("{what}: {status}, which the system does when memory is short")
        }
        true => format!("{what}: {status}"),
    })
}

fn helper<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().name("policy-compiling".into()).spawn_scoped(scope, work)
}

/// Why an answer cannot be used.
enum Unread {
    /// It is too long.
    TooBig(u64),
    /// It is no answer, or not all of it.
    Nothing(&'static str),
}

fn answer(mut from: impl Read) -> Result<(Said, Vec<u8>), Unread> {
    let mut head = [0; ANSWER_HEAD];
    from.read_exact(&mut head).map_err(|_| Unread::Nothing("it gave no answer"))?;
    let [m0, m1, m2, m3, said, l0, l1, l2, l3, l4, l5, l6, l7, digest @ ..] = head;
    let said = [Said::Artefact, Said::Refused, Said::Panicked, Said::Host].into_iter().find(|one| *one as u8 == said);
    let Some(said) = said.filter(|_| [m0, m1, m2, m3] == ANSWER_MAGIC) else {
        return Err(Unread::Nothing("what it printed is no answer"));
    };
    let length = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    if length > ARTEFACT_BYTES as u64 {
        return Err(Unread::TooBig(length));
    }
    let mut bytes = Vec::new();
    let read = from.take(length).read_to_end(&mut bytes);
    if read.is_err() || bytes.len() as u64 != length || Digest::of(&bytes).0 != digest {
        return Err(Unread::Nothing("its answer is not whole"));
    }
    Ok((said, bytes))
}

/// The beginning of what it writes; the rest is read as well, so that it does not wait for a reader.
fn first_words(from: impl Read) -> String {
    let mut from = from;
    let mut words = Vec::new();
    let _as_far_as_it_goes = from.by_ref().take(WORDS_BYTES).read_to_end(&mut words);
    let _until_its_end = io::copy(&mut from, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

/// A process that is not left behind.
struct Running(std::process::Child);

impl Running {
    /// Waits so long for its end, then kills it; gives how it ended by itself.
    fn end(&mut self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(LOOK);
        }
        self.kill();
        self.0.wait().map(|_| None)
    }

    fn kill(&mut self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // Of a process that was reaped the id may be somebody else's by now.
        if let (Some(pid), Ok(None)) = (pid, self.0.try_wait()) {
            let _it_has_ended = kill_process_group(pid, Signal::KILL);
        }
        let _it_has_ended = self.0.kill();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        let _there_is_nobody_to_tell = self.0.wait();
    }
}

/// Writes an answer.
pub(crate) fn say(mut to: impl Write, said: Said, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&ANSWER_MAGIC)?;
    to.write_all(&[said as u8])?;
    to.write_all(&(bytes.len() as u64).to_le_bytes())?;
    to.write_all(&Digest::of(bytes).0)?;
    to.write_all(bytes)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(said: Said, bytes: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        say(&mut all, said, bytes).unwrap();
        all
    }

    #[test]
    fn an_answer_is_read_as_it_was_said_or_not_at_all() {
        let whole = said(Said::Refused, b"no such thing");
        let read = answer(whole.as_slice()).ok().unwrap();
        assert_eq!(read, (Said::Refused, b"no such thing".to_vec()));
        for end in 0..whole.len() {
            assert!(matches!(answer(&whole[..end]), Err(Unread::Nothing(_))), "{end}");
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            // What it is, is not under the digest: every kind of refusal is one.
            assert!(at == 4 || answer(flipped.as_slice()).is_err(), "{at}");
        }
        let mut long = said(Said::Artefact, b"x");
        long[5..13].copy_from_slice(&(ARTEFACT_BYTES as u64 + 1).to_le_bytes());
        assert!(matches!(answer(long.as_slice()), Err(Unread::TooBig(_))));
    }

    #[test]
    fn every_end_of_a_child_says_what_happened_and_what_to_do() {
        let limits = CompileLimits::default();
        let ended =
            |raw: i32, words: &str| crashed(Ok(Some(ExitStatus::from_raw(raw))), words, "it gave no answer", &limits);
        for (error, check, words) in [
            (ended(Signal::XCPU.as_raw(), ""), "compile", "more than the 20 s of processor time"),
            (
                ended(Signal::ABORT.as_raw(), "memory allocation of 4096 bytes failed"),
                "compile",
                "the 1024 MiB of memory",
            ),
            (ended(Signal::ABORT.as_raw(), "has overflowed its stack"), "compile", "overflowed its stack"),
            (ended(Signal::KILL.as_raw(), ""), "compile", "when memory is short"),
            (ended(3 << 8, ""), "compile", "it gave no answer: exit status: 3"),
            (CompileError::Deadline { wall: limits.wall }, "compile", "not done after 60 s"),
            (CompileError::TooBig { bytes: 70_000_000 }, "compile", "70000000 bytes, and may have 67108864"),
            (CompileError::Panicked("index out of bounds".into()), "compile", "gave up on it: index out of bounds"),
            (CompileError::Host("no room".into()), "compile", "the component may be good"),
            (CompileError::Refused("bad magic".into()), "decode", "it does not decode: bad magic"),
            (CompileError::Refused("pooling allocator: 70".into()), "resources", "more than a policy may have"),
        ] {
            let findings = error.findings();
            assert_eq!(findings.0.len(), 1);
            assert_eq!(findings.0[0].check, check, "{findings}");
            assert!(
                findings.to_string().contains(words) && !findings.0[0].cure.is_empty(),
                "{findings}\nlacks: {words}"
            );
            assert!(crate::CHECKS.contains(&check));
        }
        let panicked = refusal(Said::Panicked, "mmap: Cannot allocate memory (os error 12)", &limits);
        assert_eq!(panicked, CompileError::Memory { bytes: 1 << 30 });
    }
}
