//! Every command of the README, word for word, as somebody types it who has just cloned the repository.
//!
//! The page is its own script: fenced `sh` blocks are typed line by line into one shell, `pingward run` lines each into a
//! terminal of their own, `toml` blocks into the super's config. Commands on this repository itself (`cargo run`, `cargo
//! test`, benchmarks) are the ones that `.ci/run` runs: that it does is checked here.
//!
//! The page uses pingward's default ports. Where the machine allows, the shell therefore gets a network of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{program, until};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// A fenced block: its language, its lines with continuations joined.
struct Block {
    language: String,
    lines: Vec<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                open = !open;
                if open {
                    blocks.push(Block { language: language.to_string(), lines: Vec::new() });
                }
            }
            None if open => {
                let lines = &mut blocks.last_mut().unwrap().lines;
                match lines.last_mut().filter(|last| last.ends_with('\\')) {
                    Some(last) => *last = format!("{} {}", last.trim_end_matches('\\').trim_end(), line.trim()),
                    None => lines.push(line.to_string()),
                }
            }
            None => {}
        }
    }
    assert!(!open, "a block of the page does not end");
    blocks
}

/// A shell that lines are typed into.
struct Shell {
    child: Child,
    typed: ChildStdin,
    said: BufReader<ChildStdout>,
    background: BTreeMap<String, Pid>,
}

impl Shell {
    /// In `folder`, with `pingward` on its path, and alone on its loopback where that can be had.
    fn start(folder: &Path, programs: &Path) -> Self {
        let alone = ["unshare", "-rn", "sh", "-c", "ip link set lo up"];
        let is_alone = Command::new(alone[0]).args(&alone[1..]).output().is_ok_and(|done| done.status.success());
        let mut command = if is_alone {
            let mut command = Command::new("unshare");
            command.args(["-rn", "sh", "-c", "ip link set lo up && exec bash --norc"]);
            command
        } else {
            eprintln!("!!! no network of its own for the shell: the page's ports must be free on this machine");
            let mut command = Command::new("bash");
            command.arg("--norc");
            command
        };
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = command
            .current_dir(folder)
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("NO_COLOR", "1")
            // All that the page's packages need was fetched to build this test.
            .env("CARGO_NET_OFFLINE", "true")
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (typed, said) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, typed, said, background: BTreeMap::new() }
    }

    /// Types a line; gives its exit code and all that it printed.
    fn answers(&mut self, line: &str) -> (i32, String) {
        writeln!(self.typed, "{{ {line}\n}} 2>&1 </dev/null\necho \"__ended $?\"").unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "the shell ended; it printed:\n{printed}");
            match line.rsplit_once("__ended ") {
                Some((rest, code)) => {
                    printed.push_str(rest);
                    return (code.trim().parse().unwrap(), printed);
                }
                None => printed.push_str(&line),
            }
        }
    }

    /// Types a line that must do its work.
    fn runs(&mut self, line: &str) -> String {
        let (code, printed) = self.answers(line);
        assert_eq!(code, 0, "`{line}` ended with {code}:\n{printed}");
        printed
    }

    fn json(&mut self, line: &str) -> Value {
        serde_json::from_str(&self.runs(&format!("{line} --output json"))).unwrap()
    }

    /// Types a line into a terminal of its own.
    fn begins(&mut self, line: &str) {
        let log = format!("log-{}", self.background.len());
        let pid = self.runs(&format!("{line} >{log} 2>&1 & echo $!; disown"));
        let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        self.background.insert(line.to_string(), pid);
    }

    fn signals(&self, part: &str, signal: Signal) {
        let (_, pid) = self.background.iter().find(|(line, _)| line.contains(part)).unwrap();
        kill_process(*pid, signal).unwrap();
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for pid in self.background.values() {
            // One of them was ended by the page itself.
            let _ = kill_process(*pid, Signal::KILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sets the keys of a `toml` block in a config that `init` wrote, where they stand as comments.
fn write_config(file: &Path, lines: &[String]) {
    let section = lines.first().unwrap();
    let text = std::fs::read_to_string(file).unwrap();
    let (head, tail) = text.split_once(&format!("{section}\n")).unwrap();
    let set: Vec<(&str, &String)> =
        lines.iter().skip(1).map(|line| (line.split_once(" = ").unwrap().0, line)).collect();
    let mut inside = true;
    let tail: Vec<String> = tail
        .lines()
        .map(|line| {
            inside &= !line.starts_with('[');
            let key = line.trim_start_matches("# ").split_once(" = ").map(|(key, _)| key);
            let said = set.iter().find(|(name, _)| inside && Some(*name) == key);
            said.map_or_else(|| line.to_string(), |(_, said)| (*said).clone())
        })
        .collect();
    for (_, said) in &set {
        assert!(tail.contains(said), "{} has no place for `{said}`", file.display());
    }
    std::fs::write(file, format!("{head}{section}\n{}\n", tail.join("\n"))).unwrap();
}

/// What somebody does between the lines, as the page tells it.
fn before(shell: &mut Shell, line: &str) {
    if line.starts_with("pingward claim") {
        until("something to claim", || {
            let rewards = shell.json("pingward rewards");
            let earned = |row: &Value| row["earned"].as_i64() > Some(0);
            rewards["rewards"].as_array().unwrap().iter().filter(|row| earned(row)).nth(1).map(|_| ())
        });
    }
    if line == "pingward status" {
        until("the super to answer", || (shell.answers("pingward status").0 == 0).then_some(()));
        until("both followers", || {
            let nodes = shell.json("pingward nodes");
            let followers = nodes["nodes"].as_array().unwrap().iter().filter(|node| node["role"] == "follower");
            (followers.count() == 2).then_some(())
        });
    }
    if line == "pingward nodes follower-2" {
        shell.signals("follower-2", Signal::KILL);
        until("the ban", || (shell.json(line)["standing"] == "banned").then_some(()));
    }
    if line.starts_with("pingward record submit") {
        until("the follower to know the validators", || {
            let status = shell.json("pingward status --api http://127.0.0.1:8081");
            let list = shell.json("pingward validators list");
            let there = list["validators"].as_array().unwrap().iter().filter(|one| one["connected"] == true).count();
            (status["set_version"] == 4 && there == 4).then_some(())
        });
    }
    if line.starts_with("pingward policy shadow ban") {
        until("a round with the shadow", || {
            let shadow = shell.json(line);
            (shadow["shadow"]["rounds"].as_u64() >= Some(2)).then_some(())
        });
    }
    if line.starts_with("pingward policy rollback") {
        until("the own rule", || {
            let policies = shell.json("pingward policy list");
            (policies["slots"]["ban"]["active"]["name"] == "my-ban-rule").then_some(())
        });
    }
}

/// What the page promises for a line.
fn after(line: &str, printed: &str) {
    let promised: &[&str] = match line {
        "pingward nodes follower-2" => &["banned"],
        "pingward bans" => &["follower-2"],
        "pingward nodes" => &["super-1", "follower-1", "follower-2"],
        _ if line.starts_with("cargo test") => &["test result: ok."],
        _ if line.starts_with("pingward policy bench") => &["ns a member", "100000"],
        _ if line.starts_with("pingward policy test") => &["2 cases, all as expected"],
        _ if line.starts_with("pingward policy check") => &["ok\n", "my-ban-rule"],
        _ if line.starts_with("pingward policy stage") && line.contains("--dry-run") => {
            &["nothing was staged", "rounds", "it would"]
        }
        _ if line.starts_with("pingward policy stage") => &["my-ban-rule", "1 of 1 supers"],
        _ if line.starts_with("pingward policy status") => &["ready", "my-ban-rule"],
        _ if line.starts_with("pingward policy shadow my") => &["runs beside the active ban rule from round"],
        _ if line.starts_with("pingward policy shadow ban") => &["would"],
        _ if line.starts_with("pingward policy activate") => &["decides the ban slot from round"],
        _ if line.starts_with("pingward policy rollback") => &["the ban rule before this one decides from round"],
        _ if line.starts_with("pingward validators list") => &["validator-4", "quorum     3", "1 that fail"],
        _ if line.starts_with("pingward record get") && !line.contains("json") => {
            &["seen at 12:00", "signed by", "signed"]
        }
        _ if line.starts_with("pingward verify all") => &["valid: "],
        _ if line.starts_with("pingward verify") => &["valid: signed by"],
        _ if line.starts_with("pingward record list") => &["sequence", "signed", "14"],
        _ if line.starts_with("pingward bans lift") => &["lifted: one member"],
        _ if line.starts_with("pingward demo") => &["http://127.0.0.1:8080", "suspended", "missed 3 rounds in a row"],
        _ if line.contains("/v1/policies/ban/accept") => &["\"slot\":\"ban\""],
        _ if line.contains("/v1/rounds/accept") => &["\"up\":"],
        _ if line.starts_with("curl") => &["\"round\""],
        _ => &[],
    };
    for words in promised {
        assert!(printed.contains(words), "`{line}` lacks {words}:\n{printed}");
    }
}

#[test]
fn every_command_does_what_the_page_says() {
    let repository = repository();
    let page = std::fs::read_to_string(repository.join("README.md")).unwrap();
    let checks = std::fs::read_to_string(repository.join(".ci/run")).unwrap();
    let sandbox = tempfile::tempdir().unwrap();
    let (checkout, programs) = (sandbox.path().join("pingward"), sandbox.path().join("programs"));
    std::fs::create_dir_all(&checkout).unwrap();
    std::fs::create_dir_all(&programs).unwrap();
    symlink(program(), programs.join("pingward")).unwrap();
    for entry in std::fs::read_dir(&repository).unwrap().map(Result::unwrap) {
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            symlink(entry.path(), checkout.join(entry.file_name())).unwrap();
        }
    }
    let mut shell = Shell::start(&checkout, &programs);
    let has_curl = shell.answers("curl --version").0 == 0;
    let mut has_target = true;
    let (mut typed, mut skipped) = (0, Vec::new());
    for block in blocks(&page) {
        match block.language.as_str() {
            "sh" => {}
            "toml" => {
                if has_target {
                    write_config(&sandbox.path().join("lab/super-1/node.toml"), &block.lines);
                    shell.signals("super-1", Signal::HUP);
                }
                continue;
            }
            "" => continue,
            other => panic!("a block of `{other}`: say here what to do with it"),
        }
        for line in &block.lines {
            let line = line.split_once("  #").map_or(line.as_str(), |(line, _)| line.trim_end());
            let own = |line: &str| line.starts_with("cargo ") && !line.contains("--manifest-path");
            if own(line) {
                let words =
                    [" --count", " --seeds", " --kills"].iter().fold(line, |line, at| line.split(at).next().unwrap());
                assert!(checks.contains(words), "`.ci/run` does not run `{words}`");
                continue;
            }
            let needs_target =
                ["my-ban-rule", "policy rollback", "policy shadow"].iter().any(|part| line.contains(part));
            if line.starts_with("curl") && !has_curl || needs_target && !has_target {
                skipped.push(line.to_string());
                continue;
            }
            typed += 1;
            if line.starts_with("pingward run") {
                shell.begins(line);
                continue;
            }
            before(&mut shell, line);
            let (code, printed) = shell.answers(line);
            if line.starts_with("pingward policy build") && printed.contains("rustup target add") {
                has_target = false;
                skipped.push(line.to_string());
                continue;
            }
            assert_eq!(code, 0, "`{line}` ended with {code}:\n{printed}");
            after(line, &printed);
        }
    }
    assert!(typed > 20, "the page has commands: {typed}");
    if !skipped.is_empty() {
        eprintln!("!!! SKIPPED, because this machine lacks curl or the target wasm32-unknown-unknown:\n{skipped:#?}");
    }
}
