//! From a policy's source folder to its component: the language's own tool, the packer, a digest.
//!
//! A file tells the language: `Cargo.toml` Rust, `pingward.toml` C, `package.json` JavaScript. The bytes depend on the
//! source and the tools alone, wherever the folder lies (of JavaScript's tool `build/javascript.rs` says what it leaves to
//! chance). Nothing is installed: what is missing is said, in one line with the command that installs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kernel::decide::Slot;
use kernel::id::Digest;
use kernel::limits::COMPONENT_BYTES;

use crate::pack::{Label, PackError};

mod c;
mod javascript;
mod rust;

pub use rust::TARGET;

/// The stack inside a component's memory. Compilers' own defaults are up to 1 MiB; the host clears the memory that a
/// component starts with after each call, and the columns are a better use of it than a stack that deep.
const STACK_BYTES: usize = 256 << 10;

/// What a policy can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Rust, with cargo.
    Rust,
    /// C, with clang.
    C,
    /// JavaScript, with componentize-qjs under node.
    JavaScript,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Rust, Self::C, Self::JavaScript];

    /// The file that tells it: there is one of these in a folder.
    #[must_use]
    pub const fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::C => "pingward.toml",
            Self::JavaScript => "package.json",
        }
    }

    /// That of a folder.
    ///
    /// # Errors
    /// None of the files is there, or more than one.
    pub fn of(dir: &Path) -> Result<Self, BuildError> {
        let mut found = Self::ALL.into_iter().filter(|language| dir.join(language.manifest()).is_file());
        match (found.next(), found.next()) {
            (Some(language), None) => Ok(language),
            (None, _) => Err(BuildError::NoPackage { dir: dir.to_path_buf() }),
            (Some(one), Some(other)) => {
                Err(BuildError::TwoLanguages { dir: dir.to_path_buf(), one: one.manifest(), other: other.manifest() })
            }
        }
    }
}

/// How to build, where the defaults do not fit.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Where the tools put their files; by default `policies` inside the package's own target folder.
    pub target_dir: Option<PathBuf>,
    /// Refuse to change the lock file: what makes a build repeatable. Rust's only; the others never change one.
    pub locked: bool,
}

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Where it was written.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: usize,
    /// What was written into it.
    pub label: Label,
}

/// What a language gives.
struct Made {
    label: Label,
    component: Vec<u8>,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder is no package.
    #[error(
        "{}: no Cargo.toml (Rust), pingward.toml (C) or package.json (JavaScript) here; `pingward policy new NAME --slot \
         SLOT` makes a folder to start from", dir.display()
    )]
    NoPackage {
        /// The folder.
        dir: PathBuf,
    },
    /// It cannot be told what to build.
    #[error("{}: both {one} and {other} are here, and each tells another language: leave one", dir.display())]
    TwoLanguages {
        /// The folder.
        dir: PathBuf,
        /// One file.
        one: &'static str,
        /// Another one.
        other: &'static str,
    },
    /// cargo or rustc cannot be started.
    #[error("`{program}` cannot be started ({source}); install Rust from https://rustup.rs")]
    NoRust {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The standard library for the target is not installed.
    #[error("the toolchain lacks the target {TARGET}: run `rustup target add {TARGET}` and try again")]
    NoTarget,
    /// A tool is not on this machine.
    #[error("{what}: {cure}")]
    NoTool {
        /// What is missing.
        what: String,
        /// The command that installs it.
        cure: String,
    },
    /// What describes the package is wrong.
    #[error("{}: {reason}", dir.display())]
    Manifest {
        /// The folder.
        dir: PathBuf,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The compiler refused it; it has said why on standard error.
    #[error("{}: {tool} could not build it, see its messages above", dir.display())]
    Compile {
        /// The folder.
        dir: PathBuf,
        /// Which compiler.
        tool: &'static str,
    },
    /// The compiler refused it.
    #[error("{}: {tool} could not build it: {reason}", dir.display())]
    Refused {
        /// The folder.
        dir: PathBuf,
        /// Which compiler.
        tool: &'static str,
        /// Its words.
        reason: String,
    },
    /// No node would take what came out.
    #[error("{}: the component has {size} bytes, at most {COMPONENT_BYTES} are taken: leave out what it does not need", dir.display())]
    TooLarge {
        /// The folder.
        dir: PathBuf,
        /// Its bytes.
        size: usize,
    },
    /// The module that came out is no policy.
    #[error("{}: {source}", dir.display())]
    Pack {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: PackError,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Compiles the package in `dir`, wraps it, writes the component to `out` (by default `NAME.wasm` inside `dir`).
///
/// # Errors
/// What is missing or wrong, and how to mend it.
pub fn build(dir: &Path, out: Option<&Path>, options: &BuildOptions) -> Result<Built, BuildError> {
    let Made { label, component } = match Language::of(dir)? {
        Language::Rust => rust::build(dir, options)?,
        Language::C => c::build(dir, options)?,
        Language::JavaScript => javascript::build(dir, options)?,
    };
    if component.len() > COMPONENT_BYTES {
        return Err(BuildError::TooLarge { dir: dir.to_path_buf(), size: component.len() });
    }
    let path = out.map_or_else(|| dir.join(format!("{}.wasm", label.name)), Path::to_path_buf);
    write(&path, &component).map_err(|source| BuildError::File { path: path.clone(), source })?;
    Ok(Built { path, digest: Digest::of(&component), size: component.len(), label })
}

/// Beside and then renamed: a node that watches the file never sees half of it.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("wasm.tmp");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, path)
}

/// An empty folder for what is made on the way, and its absolute path.
fn fresh(dir: &Path, options: &BuildOptions, language: &str) -> Result<PathBuf, BuildError> {
    let folder = options.target_dir.clone().unwrap_or_else(|| dir.join("target/policies")).join(language);
    let made = match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir_all(&folder).and_then(|()| folder.canonicalize()),
    };
    made.map_err(|source| BuildError::File { path: folder, source })
}

/// More is no source file.
const SOURCE_BYTES: u64 = 4 << 20;

/// A text file of the package.
fn read(path: &Path) -> Result<String, BuildError> {
    let read = fs::metadata(path).and_then(|metadata| match metadata.len() <= SOURCE_BYTES {
        true => fs::read_to_string(path),
        false => Err(io::Error::other(format!("it has more than {SOURCE_BYTES} bytes"))),
    });
    read.map_err(|source| BuildError::File { path: path.to_path_buf(), source })
}

/// The slot by its name in a manifest.
fn slot(dir: &Path, manifest: &str, named: Option<&str>) -> Result<Slot, BuildError> {
    let found = Slot::ALL.into_iter().find(|slot| Some(slot.to_string().as_str()) == named);
    found.ok_or_else(|| BuildError::Manifest {
        dir: dir.to_path_buf(),
        reason: format!("{manifest} must say which slot the rule is for: `slot` is \"ban\", \"reward\" or \"signing\""),
    })
}

/// The world of a slot in the contract.
fn world(slot: Slot) -> String {
    format!("{slot}-policy")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_tells_the_language() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let said = |dir: &Path| Language::of(dir).unwrap_err().to_string().replace(&dir.display().to_string(), "DIR");
        assert_eq!(
            said(dir),
            "DIR: no Cargo.toml (Rust), pingward.toml (C) or package.json (JavaScript) here; `pingward policy new NAME \
             --slot SLOT` makes a folder to start from"
        );
        for language in Language::ALL {
            fs::write(dir.join(language.manifest()), "").unwrap();
            assert_eq!(Language::of(dir).unwrap(), language);
            fs::remove_file(dir.join(language.manifest())).unwrap();
        }
        fs::write(dir.join("Cargo.toml"), "").unwrap();
        fs::write(dir.join("package.json"), "").unwrap();
        assert_eq!(
            said(dir),
            "DIR: both Cargo.toml and package.json are here, and each tells another language: leave one"
        );
    }
}
