//! The cache through the engine: what is kept is used, what was changed is compiled again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kernel::decide::Slot;
use policy::{Admitted, Cache, Child, CompileLimits, Compiler, Engine, EngineOptions, Findings, admit};

use crate::guests::{BAN_STRIKES, judge, limits};

#[derive(Default)]
struct Warned(Arc<Mutex<Vec<String>>>);

impl Warned {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn engine(dir: &Path, compiler: Compiler, warned: &Warned) -> Engine {
    let warned = Arc::clone(&warned.0);
    let warn = move |file: &Path, why: &str| warned.lock().unwrap().push(format!("{}: {why}", file.display()));
    let cache = Some(Cache::new(dir.join("compiled"), [1; 32], warn));
    Engine::with(EngineOptions { compiler, own: Vec::new(), cache }).unwrap()
}

/// What it admits was not compiled.
fn without_a_compiler(dir: &Path, warned: &Warned) -> Result<Admitted, Findings> {
    let child = Child { program: "/no/compiler/here".into(), arguments: Vec::new(), limits: CompileLimits::default() };
    admit(&engine(dir, Compiler::Child(child), warned), Slot::Ban, BAN_STRIKES, "{}", &limits())
}

fn with_one(dir: &Path, warned: &Warned) -> Admitted {
    admit(&engine(dir, Compiler::InProcess, warned), Slot::Ban, BAN_STRIKES, "{}", &limits()).unwrap()
}

fn only_file(dir: &Path) -> PathBuf {
    let files: Vec<PathBuf> =
        std::fs::read_dir(dir.join("compiled")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn a_restart_needs_no_compiler_and_decides_the_same() {
    let (dir, warned) = (tempfile::tempdir().unwrap(), Warned::default());
    let text = without_a_compiler(dir.path(), &warned).unwrap_err().to_string();
    assert!(text.starts_with("compile: this machine could not compile it: /no/compiler/here does not start"), "{text}");

    let before = with_one(dir.path(), &warned);
    let after = without_a_compiler(dir.path(), &warned).unwrap();
    assert_eq!((after.digest, &after.description), (before.digest, &before.description));
    assert_eq!(judge(&after.policy, "{}").unwrap(), judge(&before.policy, "{}").unwrap());
    assert_eq!(warned.take(), Vec::<String>::new());
}

#[test]
fn a_file_that_was_changed_is_compiled_again_and_warned_of() {
    let (dir, warned) = (tempfile::tempdir().unwrap(), Warned::default());
    with_one(dir.path(), &warned);
    let file = only_file(dir.path());
    let good = std::fs::read(&file).unwrap();
    for at in (0..good.len()).step_by(good.len() / 9) {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&file, &bad).unwrap();
        assert!(without_a_compiler(dir.path(), &warned).is_err(), "byte {at}");
        std::fs::write(&file, &bad).unwrap();
        with_one(dir.path(), &warned);
        let said = warned.take();
        assert!(said.len() == 2 && said.iter().all(|line| line.contains("not as this node wrote it")), "{said:?}");
        assert!(without_a_compiler(dir.path(), &warned).is_ok(), "it is mended");
    }
}
