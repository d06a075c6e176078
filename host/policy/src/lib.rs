//! Not written yet.

mod pending;

pub use pending::{Admitted, Engine, EngineError, Finding, Findings, Prepared, admit, engine_name};
