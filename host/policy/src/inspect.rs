//! What a file is, without admitting it.

use kernel::decide::{Description, LimitSettings, Slot};
use kernel::id::Digest;

use crate::admit::{at_rest, decodes, has_a_size, imports, is_a_component, slots};
use crate::engine::Engine;
use crate::finding::Findings;
use crate::prepared::Program;
use crate::text::escape;

/// Longest text that is shown of what a file says of itself, bytes.
const SHOWN_BYTES: usize = 200;
/// Names that are listed.
const NAMES: usize = 50;

/// A component, looked at. All texts are bounded and escaped: they are the file's own and prove nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: usize,
    /// The slot that it fills; `None` = it exports no world of ours.
    pub slot: Option<Slot>,
    /// Version of the contract that it was built for.
    pub wit_version: Option<String>,
    /// Versions of the contract that this release runs.
    pub wit_versions: &'static str,
    /// Functions and resources that it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Name inside the file.
    pub name: Option<String>,
    /// Version inside the file.
    pub version: Option<String>,
    /// Description inside the file.
    pub description: Option<String>,
    /// Authors inside the file.
    pub authors: Option<String>,
    /// What it was built from, as its tool said inside the file.
    pub revision: Option<String>,
    /// What it says of itself under the config: memory, reasons, extra columns. The error says why it says nothing.
    pub described: Result<Description, String>,
}

impl Inspection {
    /// The world that it was built for.
    #[must_use]
    pub fn world(&self) -> Option<String> {
        self.slot.map(|slot| format!("{slot}-policy"))
    }
}

/// Looks at a component.
///
/// # Errors
/// It is none, or it does not decode.
pub fn inspect(engine: &Engine, bytes: &[u8], config: &str, limits: &LimitSettings) -> Result<Inspection, Findings> {
    has_a_size(bytes)?;
    is_a_component(bytes)?;
    let component = decodes(engine, bytes)?;
    let filled = slots(engine, &component).into_iter().next();
    let slot = filled.as_ref().map(|(slot, _)| *slot);
    let described = match slot {
        None => Err("it fills no slot".into()),
        Some(slot) => match Program::link(engine, slot, &component) {
            Ok(program) => {
                program.describe(config, &at_rest(limits)).result.map(shown).map_err(|fault| fault.to_string())
            }
            Err(error) => Err(escape(&format!("{error:#}"), SHOWN_BYTES)),
        },
    };
    let metadata = wasm_metadata::Payload::from_binary(bytes).ok();
    let metadata = metadata.as_ref().map(wasm_metadata::Payload::metadata);
    let text = |text: Option<String>| text.map(|text| escape(&text, SHOWN_BYTES));
    let component_type = component.component_type();
    let exports = component_type.exports(engine.wasmtime()).take(NAMES);
    Ok(Inspection {
        digest: Digest::of(bytes),
        size: bytes.len(),
        slot,
        wit_version: filled.map(|(_, version)| version),
        wit_versions: crate::admit::WIT_VERSIONS,
        imports: imports(engine, &component).into_iter().take(NAMES).collect(),
        exports: exports.map(|(name, _)| escape(name, SHOWN_BYTES)).collect(),
        name: text(metadata.and_then(|metadata| metadata.name.clone())),
        version: text(metadata.and_then(|metadata| metadata.version.as_ref().map(ToString::to_string))),
        description: text(metadata.and_then(|metadata| metadata.description.as_ref().map(ToString::to_string))),
        authors: text(metadata.and_then(|metadata| metadata.authors.as_ref().map(ToString::to_string))),
        revision: text(metadata.and_then(|metadata| metadata.revision.as_ref().map(ToString::to_string))),
        described,
    })
}

/// Nothing was admitted, so nothing was bounded yet.
fn shown(description: Description) -> Description {
    let text = |text: &String| escape(text, SHOWN_BYTES);
    let texts = |all: &[String]| all.iter().take(NAMES).map(text).collect();
    Description {
        name: text(&description.name),
        version: text(&description.version),
        memory_bytes: description.memory_bytes,
        memory_schema: text(&description.memory_schema),
        reasons: texts(&description.reasons),
        extra: texts(&description.extra),
    }
}
