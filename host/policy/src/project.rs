//! A project to start a rule from: a source folder that builds and passes its own cases, whoever has nothing but this
//! program and the language's tool.
//!
//! The SDK and the contract go with it, in the folder `pingward` of the project, so that a rule is built against the
//! release that made it. A newer release's folder in its place is an update.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kernel::decide::Slot;
use toml::Table;

use crate::build::Language;

/// The packages' versions that pingward was tested with; cargo takes out what a project does not use.
const LOCK: &str = include_str!("../../../Cargo.lock");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");
/// Where the SDK is, here and in a project.
const SDK: &str = "plugins/sdk";

macro_rules! files {
    ($($path:literal),* $(,)?) => { [$(($path, include_str!(concat!("../../../", $path)))),*] };
}

/// What the SDK is made of.
const SDK_FILES: [(&str, &str); 17] = files![
    "plugins/sdk/Cargo.toml",
    "plugins/sdk/src/bindings.rs",
    "plugins/sdk/src/config.rs",
    "plugins/sdk/src/decision.rs",
    "plugins/sdk/src/export.rs",
    "plugins/sdk/src/fixed.rs",
    "plugins/sdk/src/heap.rs",
    "plugins/sdk/src/json.rs",
    "plugins/sdk/src/lib.rs",
    "plugins/sdk/src/log.rs",
    "plugins/sdk/src/members.rs",
    "plugins/sdk/src/memory.rs",
    "plugins/sdk/src/reason.rs",
    "plugins/sdk/src/records.rs",
    "plugins/sdk/src/review.rs",
    "plugins/sdk/src/testing.rs",
    "plugins/sdk/src/wellformed.rs",
];
const WIT: (&str, &str) = ("wit/policy.wit", include_str!("../../../wit/policy.wit"));

/// What the SDK for C is made of.
const C_FILES: [(&str, &str); 11] = files![
    "plugins/sdk-c/ban.c",
    "plugins/sdk-c/config.c",
    "plugins/sdk-c/internal.h",
    "plugins/sdk-c/libc.c",
    "plugins/sdk-c/pingward.h",
    "plugins/sdk-c/reward.c",
    "plugins/sdk-c/rule.c",
    "plugins/sdk-c/signing.c",
    "plugins/sdk-c/text.c",
    "plugins/sdk-c/include/stdlib.h",
    "plugins/sdk-c/include/string.h",
];

/// What the SDK for JavaScript is made of.
const JS_FILES: [(&str, &str); 2] = files!["plugins/sdk-js/pingward.js", "plugins/sdk-js/serve.js"];

macro_rules! template {
    ($folder:literal, $manifest:literal, $source:literal) => {
        Template {
            manifest: include_str!(concat!("../../../plugins/", $folder, "/", $manifest)),
            source: include_str!(concat!("../../../plugins/", $folder, "/", $source)),
        }
    };
}

macro_rules! page {
    ($folder:literal) => {
        include_str!(concat!("../../../plugins/", $folder, "/README.md"))
    };
}

/// A rule in one language; the cases are the same in all of them.
struct Template {
    manifest: &'static str,
    source: &'static str,
}

const fn template(slot: Slot, language: Language) -> Template {
    match (slot, language) {
        (Slot::Ban, Language::Rust) => template!("template", "Cargo.toml", "src/lib.rs"),
        (Slot::Reward, Language::Rust) => template!("template-reward", "Cargo.toml", "src/lib.rs"),
        (Slot::Signing, Language::Rust) => template!("template-signing", "Cargo.toml", "src/lib.rs"),
        (Slot::Ban, Language::C) => template!("template-c", "pingward.toml", "rule.c"),
        (Slot::Reward, Language::C) => template!("template-reward-c", "pingward.toml", "rule.c"),
        (Slot::Signing, Language::C) => template!("template-signing-c", "pingward.toml", "rule.c"),
        (Slot::Ban, Language::JavaScript) => template!("template-js", "package.json", "rule.js"),
        (Slot::Reward, Language::JavaScript) => template!("template-reward-js", "package.json", "rule.js"),
        (Slot::Signing, Language::JavaScript) => template!("template-signing-js", "package.json", "rule.js"),
    }
}

/// What a template calls itself, and its cases.
const fn cases(slot: Slot) -> (&'static str, &'static str) {
    match slot {
        Slot::Ban => ("my-ban-rule", include_str!("../../../plugins/template/cases.toml")),
        Slot::Reward => ("my-reward-rule", include_str!("../../../plugins/template-reward/cases.toml")),
        Slot::Signing => ("my-signing-rule", include_str!("../../../plugins/template-signing/cases.toml")),
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
pub fn project(dir: &Path, name: &str, slot: Slot, language: Language) -> Result<(), ProjectError> {
    let is_name = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !is_name {
        return Err(ProjectError::Name { name: name.into() });
    }
    if dir.exists() {
        return Err(ProjectError::Exists { dir: dir.into() });
    }
    let (usual, cases) = cases(slot);
    let mut files = match language {
        Language::Rust => rust(slot, name)?,
        Language::C => c(slot, name),
        Language::JavaScript => javascript(slot, name),
    };
    files.push(("cases.toml".into(), cases.replace(usual, name)));
    write(dir, &files).inspect_err(|_| {
        // It was not there before, and half a project helps nobody.
        let _ = fs::remove_dir_all(dir);
    })
}

type Files = Vec<(PathBuf, String)>;

fn rust(slot: Slot, name: &str) -> Result<Files, ProjectError> {
    let template = template(slot, Language::Rust);
    let manifest = template.manifest.replace(cases(slot).0, name).replace("../sdk", &format!("pingward/{SDK}"));
    let alone =
        "# This project is on its own, wherever it lies; so is the SDK in it.\n[workspace]\nexclude = [\"pingward\"]\n";
    let mut files = vec![
        ("Cargo.toml".into(), format!("{manifest}\n{alone}")),
        ("Cargo.lock".into(), LOCK.into()),
        (".gitignore".into(), "/target\n/*.wasm\n".into()),
        ("src/lib.rs".into(), template.source.into()),
        ("pingward/Cargo.toml".into(), sdk_workspace()?),
    ];
    files.extend(SDK_FILES.iter().chain([&WIT]).map(|(path, text)| (Path::new("pingward").join(path), (*text).into())));
    Ok(files)
}

fn c(slot: Slot, name: &str) -> Files {
    let template = template(slot, Language::C);
    let manifest = template.manifest.replace("sdk = \"../sdk-c\"\nwit = \"../../wit/policy.wit\"\n", "");
    let mut files = vec![
        ("pingward.toml".into(), manifest.replace(cases(slot).0, name)),
        ("rule.c".into(), template.source.into()),
        ("README.md".into(), readme(page!("template-c"), page!("template-signing-c"), slot, name)),
        ("compile_flags.txt".into(), include_str!("../../../plugins/template-c/compile_flags.txt").into()),
        (".gitignore".into(), "/target\n/*.wasm\n".into()),
    ];
    files.extend(sdk("plugins/sdk-c/", &C_FILES));
    files
}

fn javascript(slot: Slot, name: &str) -> Files {
    let template = template(slot, Language::JavaScript);
    let manifest =
        template.manifest.replace("    \"sdk\": \"../sdk-js\",\n    \"wit\": \"../../wit/policy.wit\",\n", "");
    let lock = include_str!("../../../plugins/template-js/package-lock.json");
    let mut files = vec![
        ("package.json".into(), manifest.replace(cases(slot).0, name)),
        ("package-lock.json".into(), lock.replace(cases(Slot::Ban).0, name)),
        ("rule.js".into(), template.source.into()),
        ("README.md".into(), readme(page!("template-js"), page!("template-signing-js"), slot, name)),
        (".gitignore".into(), "/node_modules\n/target\n/*.wasm\n".into()),
    ];
    files.extend(sdk("plugins/sdk-js/", &JS_FILES));
    files
}

/// The SDK and the contract, flat in the folder `pingward`.
fn sdk(folder: &str, sources: &'static [(&str, &str)]) -> Files {
    let flat = |path: &str| Path::new("pingward").join(path.strip_prefix(folder).unwrap_or(path));
    let mut files: Files = sources.iter().map(|(path, text)| (flat(path), (*text).into())).collect();
    files.push(("pingward/policy.wit".into(), WIT.1.into()));
    files
}

/// The page of a project, which is written for a ban rule and, as that is about other things, for a signing rule.
fn readme(page: &str, signing: &str, slot: Slot, name: &str) -> String {
    let page = page.replace(cases(Slot::Ban).0, name);
    match slot {
        Slot::Ban => page,
        Slot::Reward => page
            .replace("judge_one", "pay_one")
            .replace("judgeOne", "payOne")
            .replace("to its verdict", "to its points")
            .replace("--policy ban=", "--policy reward="),
        Slot::Signing => signing.replace(cases(slot).0, name),
    }
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
        for (folder, files) in [("plugins/sdk-c", &C_FILES[..]), ("plugins/sdk-js", &JS_FILES)] {
            let mut found: Vec<String> = Vec::new();
            for inside in [folder.to_string(), format!("{folder}/include")] {
                let entries = fs::read_dir(root.join(&inside)).into_iter().flatten().map(|entry| entry.unwrap());
                let files = entries.filter(|entry| entry.path().is_file());
                found.extend(files.map(|entry| format!("{inside}/{}", entry.file_name().to_string_lossy())));
            }
            let mut embedded: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
            found.sort();
            embedded.sort_unstable();
            assert_eq!(found, embedded);
        }
    }

    #[test]
    fn a_project_has_its_name_and_stands_alone() {
        let folder = tempfile::tempdir().unwrap();
        for slot in Slot::ALL {
            let dir = folder.path().join(format!("my-{slot}"));
            project(&dir, "tempo-7", slot, Language::Rust).unwrap();
            let manifest: Table = fs::read_to_string(dir.join("Cargo.toml")).unwrap().parse().unwrap();
            assert_eq!(manifest["package"]["name"].as_str(), Some("tempo-7"));
            assert_eq!(manifest["dependencies"]["pingward-sdk"]["path"].as_str(), Some("pingward/plugins/sdk"));
            let sdk: Table = fs::read_to_string(dir.join("pingward/Cargo.toml")).unwrap().parse().unwrap();
            let dependencies = sdk["workspace"]["dependencies"].as_table().unwrap();
            assert_eq!(dependencies.keys().collect::<Vec<_>>(), ["wit-bindgen"]);
            assert!(dir.join("pingward/wit/policy.wit").exists());
            assert!(matches!(project(&dir, "tempo-7", slot, Language::Rust), Err(ProjectError::Exists { .. })));
        }
        for name in ["", "7up", "My-rule", "a/b", "../x", &"x".repeat(65)] {
            let error = project(&folder.path().join("x"), name, Slot::Ban, Language::Rust).unwrap_err();
            assert!(matches!(error, ProjectError::Name { .. }), "{name}");
        }
        assert!(!folder.path().join("x").exists());
    }

    #[test]
    fn a_project_in_c_or_javascript_has_all_that_its_manifest_means() {
        let folder = tempfile::tempdir().unwrap();
        for (language, sources) in [(Language::C, &C_FILES[..]), (Language::JavaScript, &JS_FILES)] {
            for slot in Slot::ALL {
                let dir = folder.path().join(format!("{slot}-{}", language.manifest()));
                project(&dir, "tempo-7", slot, language).unwrap();
                assert_eq!(Language::of(&dir).unwrap(), language);
                let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
                let manifest = read(language.manifest());
                // It takes the SDK in its own folder, and says so by saying nothing.
                assert!(!manifest.contains("..") && manifest.contains(&format!("\"{slot}\"")), "{manifest}");
                assert_eq!(read("pingward/policy.wit"), WIT.1);
                for (path, text) in sources {
                    let place = path.strip_prefix("plugins/sdk-c/").or(path.strip_prefix("plugins/sdk-js/")).unwrap();
                    assert_eq!(read(&format!("pingward/{place}")), *text);
                }
                let decides = match slot {
                    Slot::Ban => ["judge_one", "judgeOne"],
                    Slot::Reward => ["pay_one", "payOne"],
                    Slot::Signing => ["review_one", "reviewOne"],
                };
                let page = read("README.md");
                assert!(decides.iter().any(|name| page.contains(name)), "{page}");
                assert!(page.contains(&format!("demo --policy {slot}=tempo-7.wasm")), "{page}");
                for file in [&manifest, &page, &read("cases.toml")] {
                    assert!(
                        file.contains("tempo-7")
                            && ["my-ban", "my-reward", "my-signing"].iter().all(|name| !file.contains(name)),
                        "{file}"
                    );
                }
            }
        }
        let lock = fs::read_to_string(folder.path().join("ban-package.json/package-lock.json")).unwrap();
        assert!(lock.contains("tempo-7") && !lock.contains("http"), "the registry is the machine's own choice");
    }
}
