//! A rule in C: bindings made from the contract, clang with everything of the SDK in one go, the packer.
//!
//! Bytes differ between versions of clang, and not between folders: sources are named from the folder, in order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kernel::decide::Slot;
use serde::Deserialize;
use wit_bindgen_core::Files;
use wit_bindgen_core::wit_parser::Resolve;

use super::{BuildError, BuildOptions, Language, Made, STACK_BYTES, fresh, read, slot, world};
use crate::pack::{Label, pack};

/// Sources of the SDK, beside that of the slot.
const SDK_SOURCES: [&str; 4] = ["config.c", "libc.c", "rule.c", "text.c"];

/// The memory that a component starts with, in pages of 64 KiB: the stack, and room for the columns of 10,000 members and
/// what is decided about them. Growing it costs more than most rules.
const PAGES: usize = 17;

const INSTALL: &str = "run `apt-get install clang lld` (Debian, Ubuntu), `dnf install clang lld` (Fedora) or `brew install \
                       llvm lld` and put its bin folder first in PATH (macOS), and try again";

/// `pingward.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    name: String,
    version: String,
    #[serde(default)]
    description: String,
    slot: String,
    /// Folder of the SDK.
    #[serde(default = "sdk")]
    sdk: PathBuf,
    /// The contract.
    #[serde(default = "wit")]
    wit: PathBuf,
}

fn sdk() -> PathBuf {
    "pingward".into()
}

fn wit() -> PathBuf {
    "pingward/policy.wit".into()
}

impl Manifest {
    fn read(dir: &Path) -> Result<(Self, Slot), BuildError> {
        let name = Language::C.manifest();
        let wrong =
            |reason: String| BuildError::Manifest { dir: dir.to_path_buf(), reason: format!("{name}: {reason}") };
        let text = read(&dir.join(name))?;
        let manifest: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().into()))?;
        // Both become part of the compiler's command.
        let is_plain = |text: &str, most: usize| {
            let is_of = |c: u8| c.is_ascii_alphanumeric() || b"-_.+".contains(&c);
            (1..=most).contains(&text.len()) && text.bytes().all(is_of)
        };
        if !is_plain(&manifest.name, 64) {
            return Err(wrong("`name` is 1 to 64 letters, digits and -_.+".into()));
        }
        if !is_plain(&manifest.version, 32) {
            return Err(wrong("`version` is 1 to 32 letters, digits and -_.+, such as \"0.1.0\"".into()));
        }
        let slot = slot(dir, name, Some(&manifest.slot))?;
        Ok((manifest, slot))
    }
}

/// Compiles and wraps the rule in `dir`.
pub fn build(dir: &Path, options: &BuildOptions) -> Result<Made, BuildError> {
    let (manifest, slot) = Manifest::read(dir)?;
    let sources = sources(dir)?;
    check_tools()?;
    let folder = fresh(dir, options, "c")?;
    for (name, bytes) in bindings(&dir.join(&manifest.wit), slot)?.iter() {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|source| BuildError::File { path, source })?;
    }
    let module = folder.join("module.wasm");
    compile(dir, &manifest, slot, &sources, &folder, &module)?;
    let bytes = fs::read(&module).map_err(|source| BuildError::File { path: module, source })?;
    let label = Label { name: manifest.name, version: manifest.version, description: manifest.description };
    let component = pack(&bytes, &label).map_err(|source| BuildError::Pack { dir: dir.to_path_buf(), source })?;
    Ok(Made { label, component })
}

/// The C files of the folder itself, in order.
fn sources(dir: &Path) -> Result<Vec<String>, BuildError> {
    let file = |source| BuildError::File { path: dir.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(file)? {
        let name = entry.map_err(file)?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".c") && !name.starts_with(['.', '-']) {
            found.push(name);
        }
    }
    found.sort();
    if found.is_empty() {
        let reason = "no file here ends in .c; the rule is usually rule.c".into();
        return Err(BuildError::Manifest { dir: dir.to_path_buf(), reason });
    }
    Ok(found)
}

/// The contract as C: `policy.h`, `policy.c` and an object with the component's type.
fn bindings(wit: &Path, slot: Slot) -> Result<Files, BuildError> {
    let wrong = |error| BuildError::Manifest { dir: wit.to_path_buf(), reason: format!("{error:#}") };
    let text = read(wit)?;
    let mut resolve = Resolve::default();
    let package = resolve.push_str("policy.wit", &text).map_err(wrong)?;
    let world = resolve.select_world(&[package], Some(&world(slot))).map_err(wrong)?;
    let mut files = Files::default();
    let options = wit_bindgen_c::Opts { rename_world: Some("policy".into()), ..wit_bindgen_c::Opts::default() };
    options.build().generate(&mut resolve, world, &mut files).map_err(wrong)?;
    Ok(files)
}

/// clang, able to compile for WebAssembly, and its linker.
fn check_tools() -> Result<(), BuildError> {
    let missing = |what: &str| BuildError::NoTool { what: what.into(), cure: INSTALL.into() };
    let ask = |question: &str| {
        let output = Command::new("clang").arg(question).stdin(Stdio::null()).stderr(Stdio::null()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let targets = ask("--print-targets").map_err(|_| missing("clang, the C compiler, is not installed"))?;
    if !targets.contains("wasm32") {
        return Err(missing("this clang cannot compile for WebAssembly"));
    }
    // A name without a folder is one that it did not find.
    let linker = ask("--print-prog-name=wasm-ld").unwrap_or_default();
    if !Path::new(linker.trim()).is_absolute() {
        return Err(missing("wasm-ld, the linker for WebAssembly, is not installed"));
    }
    Ok(())
}

fn compile(
    dir: &Path,
    manifest: &Manifest,
    slot: Slot,
    sources: &[String],
    folder: &Path,
    module: &Path,
) -> Result<(), BuildError> {
    let sdk = &manifest.sdk;
    let mut command = Command::new("clang");
    command.current_dir(dir).args([
        "--target=wasm32-unknown-unknown",
        "-std=c11",
        "-ffreestanding",
        "-nostdlib",
        "-mbulk-memory",
        "-O2",
        "-flto",
        "-Wall",
        "-Wextra",
    ]);
    command.arg(format!("-DPINGWARD_NAME=\"{}\"", manifest.name));
    command.arg(format!("-DPINGWARD_VERSION=\"{}\"", manifest.version));
    command.arg("-isystem").arg(sdk.join("include")).arg("-I").arg(sdk).arg("-I").arg(folder);
    // The stack first: what outgrows it traps, instead of writing over data.
    command.args(["-Wl,--no-entry", "-Wl,--strip-debug", "-Wl,--stack-first"]);
    command.arg(format!("-Wl,-z,stack-size={STACK_BYTES}")).arg(format!("-Wl,--initial-memory={}", PAGES << 16));
    command.arg("-o").arg(module).args(sources);
    command.args(SDK_SOURCES.map(|name| sdk.join(name))).arg(sdk.join(format!("{slot}.c")));
    command.arg(folder.join("policy.c")).arg(folder.join("policy_component_type.o"));
    // What would change options, or the search for headers and libraries.
    command.env("CLANG_NO_DEFAULT_CONFIG", "1");
    for name in ["CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "CCC_OVERRIDE_OPTIONS"] {
        command.env_remove(name);
    }
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status();
    match status.map_err(|source| BuildError::File { path: "clang".into(), source })?.success() {
        true => Ok(()),
        false => Err(BuildError::Compile { dir: dir.to_path_buf(), tool: "clang" }),
    }
}
