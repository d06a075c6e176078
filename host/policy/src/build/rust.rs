//! A package in Rust: cargo, with its paths remapped, its environment cleaned and the profile given here.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{BuildError, BuildOptions, Made, STACK_BYTES};
use crate::pack::{Label, pack};

/// What policies in Rust are compiled for: no system interface at all.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The profile, so that a folder outside of pingward's workspace is built with the same one. Function names stay in.
const PROFILE: &[&str] = &[
    "profile.component.inherits=\"release\"",
    "profile.component.opt-level=3",
    "profile.component.lto=true",
    "profile.component.codegen-units=1",
    "profile.component.panic=\"abort\"",
    "profile.component.strip=\"debuginfo\"",
    "profile.component.debug=false",
    "profile.component.incremental=false",
];

/// Variables that would change the bytes, or make cargo build somewhere else.
const CLEANED: &[&str] = &[
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_INCREMENTAL",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "LLVM_PROFILE_FILE",
    "CARGO_MANIFEST_DIR",
    "CARGO_PKG_NAME",
];
const CLEANED_PREFIXES: &[&str] = &["CARGO_PROFILE_", "CARGO_FEATURE_", "CARGO_CFG_", "CARGO_TARGET_WASM32_"];

/// Compiles and wraps the package in `dir`.
pub fn build(dir: &Path, options: &BuildOptions) -> Result<Made, BuildError> {
    let manifest = dir.join("Cargo.toml");
    let toolchain = Toolchain::ask(dir)?;
    let package = Package::read(dir, &manifest)?;
    let target_dir = options.target_dir.clone().unwrap_or_else(|| package.target_dir.join("policies"));
    compile(dir, &manifest, &toolchain, &package, &target_dir, options)?;

    let module = target_dir.join(TARGET).join("component").join(format!("{}.wasm", package.library));
    let bytes = fs::read(&module).map_err(|source| BuildError::File { path: module, source })?;
    let component =
        pack(&bytes, &package.label).map_err(|source| BuildError::Pack { dir: dir.to_path_buf(), source })?;
    Ok(Made { label: package.label, component })
}

/// What rustc says of itself, asked in the policy's folder because a toolchain file there may choose another one.
struct Toolchain {
    sysroot: PathBuf,
    commit: String,
}

impl Toolchain {
    fn ask(dir: &Path) -> Result<Self, BuildError> {
        let rustc = |args: &[&str]| {
            let output = Command::new("rustc").args(args).current_dir(dir).output();
            let output = output.map_err(|source| BuildError::NoRust { program: "rustc".into(), source })?;
            Ok::<_, BuildError>(String::from_utf8_lossy(&output.stdout).trim().to_string())
        };
        let libraries = rustc(&["--print", "target-libdir", "--target", TARGET])?;
        if libraries.is_empty() || !Path::new(&libraries).is_dir() {
            return Err(BuildError::NoTarget);
        }
        let version = rustc(&["-vV"])?;
        let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or("unknown");
        Ok(Self { sysroot: PathBuf::from(rustc(&["--print", "sysroot"])?), commit: commit.to_string() })
    }
}

/// What cargo says of the package.
struct Package {
    label: Label,
    /// Name of the library in file names.
    library: String,
    workspace: PathBuf,
    target_dir: PathBuf,
}

impl Package {
    fn read(dir: &Path, manifest: &Path) -> Result<Self, BuildError> {
        let wrong = |reason: &str| BuildError::Manifest { dir: dir.to_path_buf(), reason: reason.to_string() };
        let output = cargo(&["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(manifest)
            .stderr(Stdio::piped())
            .output()
            .map_err(|source| BuildError::NoRust { program: "cargo".into(), source })?;
        if !output.status.success() {
            return Err(wrong(String::from_utf8_lossy(&output.stderr).trim()));
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).map_err(|_| wrong("`cargo metadata` gave no JSON"))?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_string();
        let real = manifest.canonicalize().ok();
        let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
        let package = packages
            .into_iter()
            .find(|package| Path::new(&text(package.get("manifest_path"))).canonicalize().ok() == real)
            .ok_or_else(|| wrong("its Cargo.toml describes no package"))?;
        let is_cdylib = |target: &&Value| {
            let kinds = target.get("crate_types").and_then(Value::as_array);
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
        };
        let targets = package.get("targets").and_then(Value::as_array).into_iter().flatten();
        let library = targets.into_iter().find(is_cdylib).ok_or_else(|| {
            wrong("its Cargo.toml makes no cdylib; add `[lib]` with `crate-type = [\"cdylib\", \"rlib\"]`")
        })?;
        Ok(Self {
            label: Label {
                name: text(package.get("name")),
                version: text(package.get("version")),
                description: text(package.get("description")),
            },
            library: text(library.get("name")).replace('-', "_"),
            workspace: PathBuf::from(text(metadata.get("workspace_root"))),
            target_dir: PathBuf::from(text(metadata.get("target_directory"))),
        })
    }
}

fn compile(
    dir: &Path,
    manifest: &Path,
    toolchain: &Toolchain,
    package: &Package,
    target_dir: &Path,
    options: &BuildOptions,
) -> Result<(), BuildError> {
    let mut command = cargo(&["build", "--lib", "--profile", "component", "--target", TARGET, "--manifest-path"]);
    command.arg(manifest).arg("--target-dir").arg(target_dir);
    for setting in PROFILE {
        command.args(["--config", setting]);
    }
    if options.locked {
        command.arg("--locked");
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(toolchain, package));
    let status = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status();
    match status.map_err(|source| BuildError::NoRust { program: "cargo".into(), source })?.success() {
        true => Ok(()),
        false => Err(BuildError::Compile { dir: dir.to_path_buf(), tool: "cargo" }),
    }
}

/// Sizes the stack, and takes local paths out of panic messages, so that two machines build the same bytes.
fn flags(toolchain: &Toolchain, package: &Package) -> OsString {
    let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = env::var_os("HOME").or_else(|| env::var_os("USERPROFILE")).map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| home.map(|home| home.join(".cargo")));
    let sources = toolchain.sysroot.join("lib/rustlib/src/rust");
    let remapped = [
        Some((package.workspace.clone(), "/src".to_string())),
        cargo_home.map(|path| (path, "/cargo".to_string())),
        Some((sources, format!("/rustc/{}", toolchain.commit))),
    ];
    let mut flags = OsString::from(format!("-Clink-arg=-zstack-size={STACK_BYTES}"));
    for (from, to) in remapped.into_iter().flatten() {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

/// cargo with a clean environment.
fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(args);
    let is_cleaned = |name: &OsStr| {
        let name = name.to_string_lossy();
        CLEANED.contains(&name.as_ref()) || CLEANED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| is_cleaned(name)) {
        command.env_remove(name);
    }
    command
}
