//! Rules as WebAssembly components: how they come in, how they are run, how they are made.
//!
//! In: [`admit`] runs a checklist over bytes that somebody sent and gives a policy that is [`Prepared`], or findings that
//! say what is wrong and how to mend it; [`prepare`] brings back what passed before. Run: each call gets a fresh instance
//! with all limits of PROTOCOLS 5.8 set before anything of the guest runs (`sandbox`), and whatever goes wrong becomes a
//! fault with its kind. Made: [`build()`] compiles a source folder and [`pack()`] wraps what comes out.
//!
//! Invariants: the host links one function, the write-only `log`; nothing of a guest survives an evaluation; no wasmtime
//! type leaves this room; native code is loaded only where this program made it (`engine`, the one use of it).
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test that fails may panic"
    )
)]

mod admit;
mod finding;
mod inspect;

mod cache;
mod compile;
mod engine;
mod prepared;
mod sandbox;

mod convert;
mod text;

mod build;
mod cases;
mod failing;
mod measure;
mod pack;
mod project;

pub use admit::{Admitted, CHECKS, WIT_VERSIONS, admit, prepare};
pub use build::{BuildError, BuildOptions, Built, Language, TARGET, build};
pub use cache::{CACHE_BYTES, CACHE_FILES, Cache};
pub use cases::{CALL_MEMBERS, Case, CaseError, Expected, Played, Written, cases};
pub use compile::child::compile_for_parent;
pub use compile::{ARTEFACT_BYTES, Child, CompileLimits, Compiler};
pub use engine::{Engine, EngineError, EngineOptions, engine_name};
pub use failing::{Failing, Smallest};
pub use finding::{Finding, Findings};
pub use inspect::{Inspection, inspect};
pub use measure::{Measured, measure, measure_review};
pub use pack::{Label, PackError, pack};
pub use prepared::Prepared;
pub use project::{ProjectError, project};
pub use sandbox::STACK_BYTES;
