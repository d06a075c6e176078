//! From a core module, as a compiler makes it, to the component that pingward loads.

use wasm_metadata::{AddMetadata, AddMetadataField};

/// What is written into a component for people to read. No rule reads it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Label {
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// One line about it; may be empty.
    pub description: String,
}

/// Why a core module cannot become a component.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It has no component type inside.
    #[error(
        "this module was not built against wit/policy.wit: export a rule with `pingward_sdk::export_ban!`, `export_reward!` or \
         `export_signing!`"
    )]
    NoWorld,
    /// wit-component does not take it.
    #[error("the module cannot be wrapped into a component: {reason}")]
    Wrap {
        /// Its words.
        reason: String,
    },
}

/// Wraps a core module and labels the component. The same bytes in give the same bytes out.
///
/// # Errors
/// The module was not built for a world of `wit/policy.wit`.
pub fn pack(module: &[u8], label: &Label) -> Result<Vec<u8>, PackError> {
    let has_world = wasmparser::Parser::new(0).parse_all(module).any(|payload| {
        matches!(payload, Ok(wasmparser::Payload::CustomSection(section)) if section.name().starts_with("component-type"))
    });
    if !has_world {
        return Err(PackError::NoWorld);
    }
    let wrap = |error| PackError::Wrap { reason: format!("{error:#}") };
    let mut encoder = wit_component::ComponentEncoder::default();
    let component = encoder.validate(true).module(module).and_then(|encoder| encoder.encode()).map_err(wrap)?;
    label_component(&component, label, None)
}

/// Writes the label into a component; of `revision` the tool that made the component says what it is.
pub(crate) fn label_component(component: &[u8], label: &Label, revision: Option<&str>) -> Result<Vec<u8>, PackError> {
    let mut metadata = AddMetadata::default();
    metadata.name = AddMetadataField::Set(label.name.clone());
    metadata.version = AddMetadataField::Set(wasm_metadata::Version::new(label.version.clone()));
    if !label.description.is_empty() {
        metadata.description = AddMetadataField::Set(wasm_metadata::Description::new(label.description.clone()));
    }
    if let Some(revision) = revision {
        metadata.revision = AddMetadataField::Set(wasm_metadata::Revision::new(revision.to_string()));
    }
    metadata.to_wasm(component).map_err(|error| PackError::Wrap { reason: format!("{error:#}") })
}
