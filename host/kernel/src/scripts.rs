//! Transcripts: each file in `scripts/AREA/` is a behaviour, named after it. Its first lines say why it exists; then come
//! blocks of commands, `---`, and what they print. `PINGWARD_SCRIPTS=write` writes what they print instead of comparing it:
//! read the difference before you commit it.

mod encoding;
mod print;
mod random;
pub(crate) mod rules;
mod run;
mod shelf;
mod undone;
pub(crate) mod world;

use std::path::{Path, PathBuf};

#[test]
fn every_script_prints_what_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scripts");
    let write = std::env::var("PINGWARD_SCRIPTS").is_ok_and(|value| value == "write");
    let mut count = 0;
    for area in folder(&root).into_iter().filter(|path| path.is_dir()) {
        for path in folder(&area) {
            let text = std::fs::read_to_string(&path).unwrap();
            let printed = replay(&text, &path);
            if write {
                std::fs::write(&path, printed).unwrap();
            } else {
                assert!(text == printed, "{}\n--- printed ---\n{printed}", path.display());
            }
            count += 1;
        }
    }
    assert!(count >= 25, "{count} scripts");
}

/// The script with what its commands print.
fn replay(text: &str, path: &Path) -> String {
    assert!(text.starts_with("# "), "{}: the first line says why it exists", path.display());
    let mut cluster = run::Run::default();
    let mut printed = Vec::new();
    for block in text.trim_end().split("\n\n") {
        let commands = block.lines().take_while(|line| *line != "---");
        let (comments, commands): (Vec<&str>, Vec<&str>) = commands.partition(|line| line.starts_with('#'));
        let mut lines: Vec<String> = comments.iter().chain(&commands).map(|line| (*line).to_string()).collect();
        if !commands.is_empty() {
            lines.push("---".into());
            for command in commands {
                lines.extend(
                    cluster.run(command).unwrap_or_else(|why| panic!("{}: `{command}`: {why}", path.display())),
                );
            }
        }
        printed.push(lines.join("\n"));
    }
    printed.join("\n\n") + "\n"
}

fn folder(path: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}
