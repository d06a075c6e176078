//! Where machine code of policies comes from in this program: a child that is this program again, and the folder in which a
//! super keeps it for its next start.
//!
//! Whatever was not built into the binary is compiled in the child, whoever named it: the config file's components are
//! other people's as well.

use std::path::{Path, PathBuf};

use kernel::id::Digest;
use policy::{Cache, Child, CompileLimits, Compiler, Engine, EngineError, EngineOptions};

use crate::builtin;
use crate::keys::NodeKey;

/// The hidden command that makes this program a compiler: see [`policy::compile_for_parent`].
pub const COMMAND: &str = "compile-component";
/// In the data folder.
const FOLDER: &str = "compiled";
/// What the cache's key is derived for.
const PURPOSE: &[u8] = b"pingward compiled cache 1";
/// More gain little, and each takes address space, which is bounded.
const AUTHORS_THREADS: usize = 4;
/// This program's file as it was started, whatever was put in its place since.
const SELF: &str = "/proc/self/exe";

/// A compiler in a process of its own, for a node. Only for programs that know [`COMMAND`], as everything does that
/// [`cli::main`](crate::cli::main) started.
#[must_use]
pub fn child() -> Compiler {
    child_with(CompileLimits::default())
}

/// The same for an author, who waits for it and has no rounds on this machine.
#[must_use]
pub fn child_of_an_author() -> Compiler {
    let threads = std::thread::available_parallelism().map_or(1, |all| all.get().min(AUTHORS_THREADS));
    child_with(CompileLimits { threads: u8::try_from(threads).unwrap_or(1), ..CompileLimits::default() })
}

fn child_with(limits: CompileLimits) -> Compiler {
    let started = Path::new(SELF);
    let program = if started.exists() { Ok(started.to_owned()) } else { std::env::current_exe() };
    let program = program.unwrap_or_else(|_| PathBuf::from(env!("CARGO_PKG_NAME")));
    Compiler::Child(Child { program, arguments: vec![COMMAND.into()], limits })
}

/// The cache of a node's data folder. Its key is derived from the node's own, so there is no second secret to keep, and a
/// folder that was copied to another node is worth nothing there.
#[must_use]
pub fn cache(data_dir: &Path, key: &NodeKey) -> Cache {
    Cache::new(data_dir.join(FOLDER), key.derive(PURPOSE), |file, why| {
        tracing::warn!(file = %file.display(), why, "a file of compiled code is not used");
    })
}

/// An engine for this program: the builtins are its own.
///
/// # Errors
/// [`EngineError`].
pub fn engine(compiler: Compiler, cache: Option<Cache>) -> Result<Engine, EngineError> {
    let own = builtin::ALL.iter().map(|builtin| Digest::of(builtin.component)).collect();
    Engine::with(EngineOptions { compiler, own, cache })
}
