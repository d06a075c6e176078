//! A rule in another language than Rust: its project, what is said where a tool is missing, and where it is not, what the
//! compiler says, the same bytes in any folder, and its own cases.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{program, refused, run, runs};

/// What a command that succeeds says to the person who typed it.
fn notes(folder: &Path, arguments: &[&str]) -> String {
    let done = run(folder, arguments);
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stderr).unwrap()
}

const RULES: [(&str, &str); 3] = [("ban", "my-ban-rule"), ("reward", "my-reward-rule"), ("signing", "my-signing-rule")];

/// Programs by their shell text, in a folder that is the whole path.
fn path_of(folder: &Path, programs: &[(&str, &str)]) -> PathBuf {
    let path = folder.join("path");
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    for (name, text) in programs {
        fs::write(path.join(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    path
}

/// What `policy build` says on a machine that has these programs.
fn built_with(folder: &Path, project: &str, programs: &[(&str, &str)]) -> String {
    let path = path_of(folder, programs);
    let mut command = Command::new(program());
    command.args(["policy", "build", project]).current_dir(folder).env("PATH", path).env("NO_COLOR", "1");
    let done = command.output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(done.stdout.is_empty());
    let text = String::from_utf8(done.stderr).unwrap();
    text.strip_prefix(&format!("building {project}\n")).unwrap_or(&text).to_string()
}

#[test]
fn what_is_missing_for_c_is_said_in_one_line_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = notes(folder.path(), &["policy", "new", "rule-c", "--slot", "ban", "--lang", "c"]);
    assert!(made.contains("rule-c/rule.c") && made.contains("policy build rule-c"), "{made}");
    let install = "apt-get install clang lld";
    for (programs, missing) in [
        (&[][..], "clang, the C compiler, is not installed: run"),
        (&[("clang", "echo '  x86-64 - 64-bit X86'")], "this clang cannot compile for WebAssembly: run"),
        (
            &[("clang", "case $1 in --print-targets) echo '  wasm32 - WebAssembly';; *) echo wasm-ld;; esac")],
            "wasm-ld, the linker for WebAssembly, is not installed: run",
        ),
    ] {
        let said = built_with(folder.path(), "rule-c", programs);
        assert!(said.contains(missing) && said.contains(install) && said.trim_end().lines().count() == 1, "{said}");
    }
}

#[test]
fn what_is_missing_for_javascript_is_said_in_one_line_with_the_command_that_installs_it() {
    let folder = tempfile::tempdir().unwrap();
    let made = notes(folder.path(), &["policy", "new", "rule-js", "--slot", "reward", "--lang", "js"]);
    assert!(made.contains("rule-js/rule.js") && made.contains("npm ci --prefix rule-js"), "{made}");
    let node = ("node", "echo v20.1.0");
    for (programs, missing, install) in [
        (&[][..], "node is not installed: run", "apt-get install nodejs npm"),
        (&[("node", "echo v16.2.0")], "node v16.2.0 is too old: run", "version 18 or newer"),
        (&[node], "componentize-qjs 0.4.5 is not installed here: run", "`npm ci --prefix rule-js`"),
    ] {
        let said = built_with(folder.path(), "rule-js", programs);
        assert!(said.contains(missing) && said.contains(install) && said.trim_end().lines().count() == 1, "{said}");
    }
    let tool = folder.path().join("rule-js/node_modules/componentize-qjs");
    fs::create_dir_all(&tool).unwrap();
    fs::write(tool.join("package.json"), r#"{"version":"0.3.0"}"#).unwrap();
    let said = built_with(folder.path(), "rule-js", &[node]);
    let missing = "componentize-qjs 0.3.0 is installed, and the package pins 0.4.5: run `npm ci --prefix rule-js`";
    assert!(said.contains(missing), "{said}");
}

#[test]
fn a_folder_that_is_wrong_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    runs(here, &["policy", "new", "c", "--slot", "ban", "--lang", "c"]);
    runs(here, &["policy", "new", "js", "--slot", "ban", "--lang", "js"]);
    let refuses = |dir: &str, wanted: &str| {
        let (code, text) = refused(here, &["policy", "build", dir]);
        assert!(code == 1 && text.contains(wanted), "{dir}: {text}");
    };
    let mend = |file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(here.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(here.join(file), text.replace(from, to)).unwrap();
    };
    mend("c/pingward.toml", "slot = \"ban\"", "slot = \"bann\"");
    refuses("c", "`slot` is \"ban\", \"reward\" or \"signing\"");
    mend("c/pingward.toml", "slot = \"bann\"", "slots = \"ban\"");
    refuses("c", "unknown field `slots`");
    mend("c/pingward.toml", "slots", "slot");
    mend("c/pingward.toml", "name = \"c\"", "name = \"c\\\" -DX\"");
    refuses("c", "`name` is 1 to 64 letters");
    mend("c/pingward.toml", "name = \"c\\\" -DX\"", "name = \"c\"");
    fs::rename(here.join("c/rule.c"), here.join("c/rule.cc")).unwrap();
    refuses("c", "no file here ends in .c");
    mend("js/package.json", "\"slot\": \"ban\"", "\"slots\": \"ban\"");
    refuses("js", "unknown field `slots`");
    mend("js/package.json", "\"slots\": \"ban\"", "\"slot\": null");
    refuses("js", "`slot` is \"ban\", \"reward\" or \"signing\"");
    mend("js/package.json", "\"slot\": null", "\"slot\": \"ban\"");
    fs::rename(here.join("js/rule.js"), here.join("js/entry.js")).unwrap();
    refuses("js", "the name entry.js is taken");
    fs::remove_file(here.join("js/entry.js")).unwrap();
    refuses("js", "no rule.js is here");
    fs::write(here.join("js/pingward.toml"), "").unwrap();
    refuses("js", "both pingward.toml and package.json are here");
    fs::create_dir(here.join("empty")).unwrap();
    refuses("empty", "pingward policy new NAME --slot SLOT");
}

/// The worked rule's tools, where `.ci/components` installed them.
fn javascript_tools() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/cookbook/ripe-atlas-js/node_modules");
    folder.canonicalize().ok()
}

fn answers(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|done| done.status.success())
}

/// Builds a fresh project of each slot and plays its cases; the component's bytes.
fn project_passes_its_cases(folder: &Path, language: &str, prepare: &dyn Fn(&Path)) -> Vec<Vec<u8>> {
    let built = RULES.map(|(slot, name)| {
        runs(folder, &["policy", "new", name, "--slot", slot, "--lang", language]);
        prepare(&folder.join(name));
        runs(folder, &["policy", "build", name]);
        let component = format!("{name}/{name}.wasm");
        let played = runs(folder, &["policy", "test", &component]);
        assert!(played.contains("all as expected"), "{played}");
        if language == "js" {
            // What follows compiles the interpreter once more for each line.
            return fs::read(folder.join(component)).unwrap();
        }
        let checked = runs(folder, &["policy", "check", &component, "--config", "{}"]);
        assert!(checked.contains(&format!("{name} 0.1.0")), "{checked}");
        let inspected = runs(folder, &["policy", "inspect", &component]);
        assert!(!inspected.contains("wasi:"), "{inspected}");
        let (code, text) = refused(folder, &["policy", "check", &component, "--config", r#"{"limt":1}"#]);
        assert!(code == 1 && text.contains("unknown key `limt`; it knows `"), "{text}");
        fs::read(folder.join(component)).unwrap()
    });
    built.to_vec()
}

#[test]
fn a_project_in_c_passes_its_cases_and_is_the_same_bytes_in_any_folder() {
    if !answers("clang") || !answers("wasm-ld") {
        eprintln!("!!! SKIPPED: rules in C were NOT built: run apt-get install clang lld");
        return;
    }
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let deeper = other.path().join("a folder/deeper");
    fs::create_dir_all(&deeper).unwrap();
    let first = project_passes_its_cases(one.path(), "c", &|_| {});
    assert_eq!(first, project_passes_its_cases(&deeper, "c", &|_| {}));

    let rule = one.path().join("my-ban-rule/rule.c");
    let text = fs::read_to_string(&rule).unwrap();
    fs::write(&rule, text.replace("row->presence", "row->presense")).unwrap();
    let done = run(one.path(), &["policy", "build", "my-ban-rule"]);
    let said = String::from_utf8_lossy(&done.stderr);
    let line = 1 + text.lines().position(|line| line.contains("row->presence")).unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(said.contains(&format!("rule.c:{line}:")) && said.contains("presense"), "{said}");
    assert!(said.contains("clang could not build it, see its messages above"), "{said}");
}

#[test]
fn a_project_in_javascript_passes_its_cases_and_a_mistake_is_said_with_its_place() {
    let Some(tools) = javascript_tools().filter(|_| answers("node")) else {
        eprintln!(
            "!!! SKIPPED: rules in JavaScript were NOT built: run npm ci --prefix plugins/cookbook/ripe-atlas-js"
        );
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let prepare = |project: &Path| symlink(&tools, project.join("node_modules")).unwrap();
    let built = project_passes_its_cases(folder.path(), "js", &prepare);
    assert!(built.iter().all(|component| component.len() < 2 << 20));

    let rule = folder.path().join("my-ban-rule/rule.js");
    let text = fs::read_to_string(&rule).unwrap();
    for (wrong, place) in
        [("\nexport const x = {{;\n", "rule.js:"), ("\nnoSuchName.call();\n", "noSuchName is not defined")]
    {
        fs::write(&rule, format!("{text}{wrong}")).unwrap();
        let (code, said) = refused(folder.path(), &["policy", "build", "my-ban-rule"]);
        assert!(code == 1 && said.contains("componentize-qjs could not build it") && said.contains(place), "{said}");
    }
}
