//! A rule in JavaScript: its modules, the SDK and an entry that connects both are put into one folder, from which
//! componentize-qjs makes a component with QuickJS inside.
//!
//! The tool evaluates the modules and keeps the interpreter's memory, in which seeds of hash tables and of `Math.random`
//! were drawn: two builds differ in some hundred bytes and in nothing that a rule does. Hence the component carries the
//! digest of all that went in as its `revision`, by which a checked-in one is held to its source.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kernel::decide::Slot;
use kernel::id::Digest;
use serde::Deserialize;
use wit_bindgen_core::wit_parser::Resolve;

use super::{BuildError, BuildOptions, Language, Made, fresh, read, slot, world};
use crate::pack::{Label, label_component};
use crate::text::is_printable;

const TOOL: &str = "componentize-qjs";
/// The oldest node that the tool runs under.
const NODE: u64 = 18;
/// Files of the SDK.
const SDK: [&str; 2] = ["pingward.js", "serve.js"];
/// More is no rule; somebody named the wrong folder.
const MODULES: usize = 1_000;
/// As much of the tool's words as a person reads.
const REASON_BYTES: usize = 4 << 10;

/// What is read of `package.json`.
#[derive(Deserialize)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    pingward: Rule,
    #[serde(default, rename = "devDependencies")]
    tools: Tools,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    slot: Option<String>,
    /// Folder of the SDK.
    sdk: Option<PathBuf>,
    /// The contract.
    wit: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
struct Tools {
    #[serde(rename = "componentize-qjs")]
    componentize: Option<String>,
}

/// A tool's own `package.json`.
#[derive(Deserialize)]
struct Installed {
    version: String,
}

fn wrong(dir: &Path, reason: impl Into<String>) -> BuildError {
    BuildError::Manifest {
        dir: dir.to_path_buf(),
        reason: format!("{}: {}", Language::JavaScript.manifest(), reason.into()),
    }
}

impl Manifest {
    fn read(dir: &Path) -> Result<(Self, Slot), BuildError> {
        let name = Language::JavaScript.manifest();
        let manifest: Self =
            serde_json::from_str(&read(&dir.join(name))?).map_err(|error| wrong(dir, error.to_string()))?;
        let is_file_name = |text: &str| !text.is_empty() && is_printable(text) && !text.contains(['/', '\\']);
        if !is_file_name(&manifest.name) {
            return Err(wrong(dir, "`name` is a name without a scope, such as my-rule"));
        }
        let slot = slot(dir, &format!("{name}, in `pingward`,"), manifest.pingward.slot.as_deref())?;
        Ok((manifest, slot))
    }
}

/// Compiles the rule in `dir`.
pub fn build(dir: &Path, options: &BuildOptions) -> Result<Made, BuildError> {
    let (manifest, slot) = Manifest::read(dir)?;
    let sources = sources(dir, &manifest, slot)?;
    let tool = tool(dir, &manifest)?;
    let folder = fresh(dir, options, "javascript")?;
    for (name, text) in &sources {
        let path = folder.join("source").join(name);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|source| BuildError::File { path, source })?;
    }
    let bytes = compile(dir, &tool, &folder, slot)?;
    let label = Label { name: manifest.name, version: manifest.version, description: manifest.description };
    let component = label_component(&bytes, &label, Some(&revision(&tool.version, &sources)))
        .map_err(|source| BuildError::Pack { dir: dir.to_path_buf(), source })?;
    Ok(Made { label, component })
}

/// All that the tool gets, by place: the contract, the entry, the SDK and the rule's modules.
fn sources(dir: &Path, manifest: &Manifest, slot: Slot) -> Result<Vec<(String, String)>, BuildError> {
    let modules = modules(dir)?;
    let sdk = dir.join(manifest.pingward.sdk.clone().unwrap_or_else(|| "pingward".into()));
    let wit = read(&dir.join(manifest.pingward.wit.clone().unwrap_or_else(|| "pingward/policy.wit".into())))?;
    let mut sources = vec![("entry.js".into(), entry(manifest, slot, dir, &wit)?), ("policy.wit".into(), wit)];
    for name in SDK {
        sources.push((format!("pingward/{name}"), read(&sdk.join(name))?));
    }
    sources.extend(modules);
    Ok(sources)
}

/// The digest of the tool's version and all that it gets.
fn revision(tool: &str, sources: &[(String, String)]) -> String {
    let mut inputs = format!("{TOOL} {tool}\n");
    for (name, text) in sources {
        inputs.push_str(&format!("{name} {}\n{text}", text.len()));
    }
    Digest::of(inputs.as_bytes()).to_string()
}

/// Connects the rule with the contract.
fn entry(manifest: &Manifest, slot: Slot, dir: &Path, wit: &str) -> Result<String, BuildError> {
    let mut resolve = Resolve::default();
    let package =
        resolve.push_str("policy.wit", wit).map_err(|error| wrong(dir, format!("its contract: {error:#}")))?;
    let log = resolve.packages.get(package).map(|package| package.name.interface_id("log")).unwrap_or_default();
    let quoted = |text: &str| serde_json::to_string(text).map_err(|error| wrong(dir, error.to_string()));
    Ok(format!(
        "import {{ write }} from '{log}';\n\
         import * as rule from './rule.js';\n\
         import {{ {slot} as interfaceOf }} from './pingward/serve.js';\n\
         export const {slot} = interfaceOf(rule, {}, {}, write);\n",
        quoted(&manifest.name)?,
        quoted(&manifest.version)?,
    ))
}

/// The rule's own modules with their places, in order: all but what is hidden, installed, made, or the SDK's.
fn modules(dir: &Path) -> Result<Vec<(String, String)>, BuildError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inside) = folders.pop() {
        let folder = dir.join(&inside);
        let file = |source: io::Error| BuildError::File { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(file)? {
            let entry = entry.map_err(file)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let place = inside.join(&name);
            let kind = entry.file_type().map_err(file)?;
            if name.starts_with('.') || ["node_modules", "target", "pingward"].contains(&name.as_str()) {
                continue;
            } else if kind.is_dir() {
                folders.push(place);
            } else if name.ends_with(".js") || name.ends_with(".mjs") {
                found.push((place.to_string_lossy().replace('\\', "/"), read(&dir.join(&place))?));
            }
            if found.len() + folders.len() > MODULES {
                return Err(wrong(dir, format!("more than {MODULES} modules and folders are here")));
            }
        }
    }
    found.sort();
    match found.iter().find(|(place, _)| place == "rule.js" || place == "entry.js") {
        Some((place, _)) if place == "rule.js" => Ok(found),
        Some(_) => Err(wrong(dir, "the name entry.js is taken: call it something else")),
        None => Err(wrong(dir, "no rule.js is here, the module that has the rule")),
    }
}

struct Tool {
    version: String,
    program: PathBuf,
}

/// The tool in the version that the package pins.
fn tool(dir: &Path, manifest: &Manifest) -> Result<Tool, BuildError> {
    let missing = |what: String, cure: String| BuildError::NoTool { what, cure };
    let node = Command::new("node").arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let node = node.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default();
    let major = node.strip_prefix('v').and_then(|rest| rest.split('.').next()).and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u64| major < NODE) {
        let what = if node.is_empty() { "node is not installed".into() } else { format!("node {node} is too old") };
        return Err(missing(
            what,
            format!(
                "run `apt-get install nodejs npm` (Debian, Ubuntu) or `brew install node` (macOS), version {NODE} or \
                 newer, and try again"
            ),
        ));
    }
    let pinned = manifest.tools.componentize.as_deref().unwrap_or_default();
    if !pinned.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(wrong(dir, format!("`devDependencies` must pin one version of {TOOL}, such as \"0.4.5\"")));
    }
    let folder = dir.join("node_modules").join(TOOL);
    let cure = format!("run `npm ci --prefix {}` and try again", dir.display());
    let installed =
        read(&folder.join("package.json")).ok().and_then(|text| serde_json::from_str::<Installed>(&text).ok());
    match installed {
        Some(Installed { version }) if version == pinned => {
            let program = folder.join("bin").join(TOOL);
            let program = program.canonicalize().map_err(|source| BuildError::File { path: program, source })?;
            Ok(Tool { version, program })
        }
        Some(Installed { version }) => {
            Err(missing(format!("{TOOL} {version} is installed, and the package pins {pinned}"), cure))
        }
        None => Err(missing(format!("{TOOL} {pinned} is not installed here"), cure)),
    }
}

fn compile(dir: &Path, tool: &Tool, folder: &Path, slot: Slot) -> Result<Vec<u8>, BuildError> {
    let path = folder.join("component.wasm");
    let mut command = Command::new("node");
    command.arg(&tool.program).current_dir(folder.join("source"));
    // No futures, which the host does not run, and no system interface: what calls it ends the round.
    command.args(["--sync", "--stub-wasi", "--wit", "policy.wit", "--world", &world(slot)]);
    command.args(["--module-root", ".", "--js", "entry.js", "--output"]).arg(&path);
    for name in ["NODE_OPTIONS", "NODE_PATH"] {
        command.env_remove(name);
    }
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|source| BuildError::File { path: "node".into(), source })?;
    // It ends well also when it refuses.
    if !output.status.success() || !path.is_file() {
        return Err(BuildError::Refused {
            dir: dir.to_path_buf(),
            tool: TOOL,
            reason: reason(&String::from_utf8_lossy(&output.stderr), folder),
        });
    }
    fs::read(&path).map_err(|source| BuildError::File { path, source })
}

/// What the tool says, line by line, without what only its author needs; places are those of the package.
fn reason(said: &str, folder: &Path) -> String {
    let said = said.replace(&format!("{}/", folder.join("source").display()), "");
    let said = said.trim().trim_start_matches("Error: ").trim_start_matches(": ");
    let said = said.replace("(/", "(").replace("at /", "at ");
    let mut lines = String::new();
    for line in said.lines() {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if lines.len() + line.len() > REASON_BYTES {
            lines.push_str("\n...");
            break;
        }
        lines.push('\n');
        lines.push_str(line.trim_end());
    }
    if lines.is_empty() { "it said nothing".into() } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_words_name_places_of_the_package() {
        let said = "Error: : Failed to evaluate user JavaScript module: Error: foo is not defined\n    at <anonymous> (/rule.js:3:1)\n\n";
        assert_eq!(
            reason(said, Path::new("/tmp/x")),
            "\nFailed to evaluate user JavaScript module: Error: foo is not defined\n    at <anonymous> (rule.js:3:1)"
        );
        assert!(reason(&"long\n".repeat(5_000), Path::new("/x")).len() < REASON_BYTES + 10);
        assert_eq!(reason("", Path::new("/x")), "it said nothing");
    }

    #[test]
    fn the_checked_in_component_is_of_the_checked_in_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let (manifest, slot) = Manifest::read(&root.join("plugins/cookbook/ripe-atlas-js")).unwrap();
        let sources = sources(&root.join("plugins/cookbook/ripe-atlas-js"), &manifest, slot).unwrap();
        let bytes = fs::read(root.join("plugins/prebuilt/cookbook/ripe-atlas-js.wasm")).unwrap();
        let wasm_metadata::Payload::Component { metadata, .. } = wasm_metadata::Payload::from_binary(&bytes).unwrap()
        else {
            panic!("not a component")
        };
        assert_eq!(
            metadata.revision.map(|revision| revision.to_string()),
            Some(revision(&manifest.tools.componentize.unwrap(), &sources)),
            "its source, the SDK or the contract changed: run `.ci/components --update` where node is, and commit"
        );
    }

    #[test]
    fn the_entry_names_the_log_of_the_contract() {
        let manifest: Manifest = serde_json::from_str(r#"{"name":"a\"b","version":"1"}"#).unwrap();
        let entry = entry(&manifest, Slot::Ban, Path::new("x"), "package a:b@7.8.9; interface log {}").unwrap();
        assert_eq!(
            entry,
            "import { write } from 'a:b/log@7.8.9';\nimport * as rule from './rule.js';\nimport { ban as interfaceOf } \
             from './pingward/serve.js';\nexport const ban = interfaceOf(rule, \"a\\\"b\", \"1\", write);\n"
        );
    }
}
