//! A project to start a rule from: a source folder that builds and passes its own test, whoever has nothing but this
//! program and Rust.
//!
//! The SDK and the contract go with it, in the folder `pingward` of the project and laid out as here, so that a rule is
//! built against the release that made it. A newer release's folder in its place is an update.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kernel::decide::Slot;
use toml::Table;

/// The packages' versions that pingward was tested with; cargo takes out what a project does not use.
const LOCK: &str = include_str!("../../../Cargo.lock");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
/// Where the SDK is, here and in a project.
const SDK: &str = "plugins/sdk";

macro_rules! files {
    ($($path:literal),* $(,)?) => { [$(($path, include_str!(concat!("../../../", $path)))),*] };
}

/// What the SDK is made of.
const SDK_FILES: [(&str, &str); 13] = files![
    "plugins/sdk/Cargo.toml",
    "plugins/sdk/src/bindings.rs",
    "plugins/sdk/src/config.rs",
    "plugins/sdk/src/decision.rs",
    "plugins/sdk/src/export.rs",
    "plugins/sdk/src/fixed.rs",
    "plugins/sdk/src/heap.rs",
    "plugins/sdk/src/lib.rs",
    "plugins/sdk/src/log.rs",
    "plugins/sdk/src/members.rs",
    "plugins/sdk/src/memory.rs",
    "plugins/sdk/src/reason.rs",
    "plugins/sdk/src/testing.rs",
];
const WIT: (&str, &str) = ("wit/policy.wit", include_str!("../../../wit/policy.wit"));

struct Template {
    name: &'static str,
    manifest: &'static str,
    source: &'static str,
    cases: &'static str,
}

const fn template(slot: Slot) -> Template {
    match slot {
        Slot::Ban => Template {
            name: "my-ban-rule",
            manifest: include_str!("../../../plugins/template/Cargo.toml"),
            source: include_str!("../../../plugins/template/src/lib.rs"),
            cases: include_str!("../../../plugins/template/cases.toml"),
        },
        Slot::Reward => Template {
            name: "my-reward-rule",
            manifest: include_str!("../../../plugins/template-reward/Cargo.toml"),
            source: include_str!("../../../plugins/template-reward/src/lib.rs"),
            cases: include_str!("../../../plugins/template-reward/cases.toml"),
        },
    }
}

/// Why there is no project.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    /// No package can have this name.
    #[error("`{name}` cannot be the name of a rule: use 1 to 64 of a-z, 0-9 and -, beginning with a letter")]
    Name {
        /// Which.
        name: String,
    },
    /// Nothing is overwritten.
    #[error("{} exists, and nothing is overwritten: name another folder", dir.display())]
    Exists {
        /// Which.
        dir: PathBuf,
    },
    /// A file cannot be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This release was built wrongly.
    #[error("this release carries no workspace that a project can be made of: {0}")]
    Workspace(String),
}

/// Makes a project `name` for a slot in `dir`, which must not exist.
///
/// # Errors
/// [`ProjectError`]; nothing is left of what was begun.
pub fn project(dir: &Path, name: &str, slot: Slot) -> Result<(), ProjectError> {
    let is_name = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_name {
        return Err(ProjectError::Name { name: name.into() });
    }
    if dir.exists() {
        return Err(ProjectError::Exists { dir: dir.into() });
    }
    let template = template(slot);
    let manifest = template.manifest.replace(template.name, name).replace("../sdk", &format!("pingward/{SDK}"));
    let mut files = vec![
        (
            PathBuf::from("Cargo.toml"),
            format!(
                "{manifest}\n# This project is on its own, wherever it lies; so is the SDK in it.\n[workspace]\nexclude = [\"pingward\"]\n"
            ),
        ),
        (PathBuf::from("Cargo.lock"), LOCK.into()),
        (PathBuf::from(".gitignore"), "/target\n/*.wasm\n".into()),
        (PathBuf::from("src/lib.rs"), template.source.into()),
        (PathBuf::from("cases.toml"), template.cases.replace(template.name, name)),
        (PathBuf::from("pingward/Cargo.toml"), sdk_workspace()?),
    ];
    files.extend(SDK_FILES.iter().chain([&WIT]).map(|(path, text)| (Path::new("pingward").join(path), (*text).into())));
    write(dir, &files).inspect_err(|_| {
        // It was not there before, and half a project helps nobody.
        let _ = fs::remove_dir_all(dir);
    })
}

fn write(dir: &Path, files: &[(PathBuf, String)]) -> Result<(), ProjectError> {
    for (path, text) in files {
        let path = dir.join(path);
        let parent = path.parent().unwrap_or(dir);
        let written = fs::create_dir_all(parent).and_then(|()| fs::write(&path, text));
        written.map_err(|source| ProjectError::File { path: path.clone(), source })?;
    }
    Ok(())
}

/// What the SDK's manifest inherits, and nothing else of this workspace.
fn sdk_workspace() -> Result<String, ProjectError> {
    let failed = |what: &str| ProjectError::Workspace(what.into());
    let root: Table = WORKSPACE.parse().map_err(|_| failed("not TOML"))?;
    let workspace = root.get("workspace").and_then(|w| w.as_table()).ok_or_else(|| failed("workspace"))?;
    let part = |name: &str| workspace.get(name).and_then(|p| p.as_table()).cloned().ok_or_else(|| failed(name));
    let used = SDK_FILES[0].1;
    let mut dependencies = part("dependencies")?;
    dependencies.retain(|name, _| used.contains(&format!("\n{name}.workspace")));
    let mut out = Table::new();
    out.insert("resolver".into(), "3".into());
    out.insert("members".into(), vec![SDK].into());
    out.insert("package".into(), part("package")?.into());
    out.insert("lints".into(), part("lints")?.into());
    out.insert("dependencies".into(), dependencies.into());
    let mut file = Table::new();
    file.insert("workspace".into(), out.into());
    let text = toml::to_string(&file).map_err(|error| ProjectError::Workspace(error.to_string()))?;
    Ok(format!("# The SDK and the contract of the pingward release that made this project.\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_of_the_sdk_go_with_a_project() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut found: Vec<String> = fs::read_dir(root.join(SDK).join("src"))
            .unwrap()
            .map(|entry| format!("{SDK}/src/{}", entry.unwrap().file_name().to_string_lossy()))
            .collect();
        found.push(format!("{SDK}/Cargo.toml"));
        found.sort();
        assert_eq!(found, SDK_FILES.map(|(path, _)| path.to_string()));
    }

    #[test]
    fn a_project_has_its_name_and_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        for slot in Slot::ALL {
            let dir = folder.path().join(format!("my-{slot}"));
            project(&dir, "tempo-7", slot).unwrap();
            let manifest: Table = fs::read_to_string(dir.join("Cargo.toml")).unwrap().parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some("tempo-7"));
            assert_eq!(manifest["dependencies"]["pingward-sdk"]["path"].as_str(), Some("pingward/plugins/sdk"));
            let sdk: Table = fs::read_to_string(dir.join("pingward/Cargo.toml")).unwrap().parse().unwrap();
            let dependencies = sdk["workspace"]["dependencies"].as_table().unwrap();
            assert_eq!(dependencies.keys().collect::<Vec<_>>(), ["miniserde", "wit-bindgen"]);
            assert!(dir.join("pingward/wit/policy.wit").exists());
            assert!(matches!(project(&dir, "tempo-7", slot), Err(ProjectError::Exists { .. })));
        }
        for name in ["", "7up", "My-rule", "a/b", "../x", &"x".repeat(65)] {
            let error = project(&folder.path().join("x"), name, Slot::Ban).unwrap_err();
            assert!(matches!(error, ProjectError::Name { .. }), "{name}");
        }
        assert!(!folder.path().join("x").exists());
    }
}
