//! Processes, files and requests for the tests: everything a person at a terminal would do, and nothing from inside.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How long anything may take before a test gives up. Generous: it is a net, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test.
pub fn program() -> PathBuf {
    env!("CARGO_BIN_EXE_pingward-under-test").into()
}

/// A free port of loopback, below those that the system gives to outgoing connections: one of those could be taken by
/// anybody between this test and the process that it is for.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id() as u16;
    until("a free port", || {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + start.wrapping_mul(97).wrapping_add(next) % 20_000;
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(port)
    })
}

/// Asks until there is an answer.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(25));
    }
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

/// A running process; it is killed when the test lets go of it.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Arc<Lines>,
}

impl Process {
    /// Starts the program.
    pub fn start(name: &str, folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(program())
            .args(arguments)
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Lines::default());
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    lines.lines.lock().unwrap().push(String::from_utf8_lossy(&line).trim_end().to_string());
                    lines.more.notify_all();
                }
            });
        }
        let stdin = child.stdin.take();
        Self { name: name.to_string(), child, stdin, lines }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Types a line.
    pub fn types(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
    }

    /// All that it printed, both streams as they came.
    pub fn printed(&self) -> Vec<String> {
        // A test that failed while it looked may still be told what there was.
        self.lines.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line, from a place on; gives the line and the place after it.
    pub fn line_after(&self, from: usize, what: &str, wanted: impl Fn(&str) -> bool) -> (String, usize) {
        let start = Instant::now();
        let mut lines = self.lines.lines.lock().unwrap();
        let mut at = from;
        loop {
            while let Some(line) = lines.get(at) {
                at += 1;
                if wanted(line) {
                    return (line.clone(), at);
                }
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "{} never printed {what}; it printed:\n{}", self.name, lines.join("\n"));
            lines = self.lines.more.wait_timeout(lines, left.min(Duration::from_millis(200))).unwrap().0;
        }
    }

    /// Waits for a line.
    pub fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.line_after(0, what, wanted).0
    }

    /// Waits for its end.
    pub fn ends(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        let child = &mut self.child;
        let start = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                // What it printed last may still be on its way through the pipe.
                std::thread::sleep(Duration::from_millis(50));
                return status;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{} did not end; it printed:\n{}",
                self.name,
                self.printed().join("\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it as a power cut would.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Asks it to stop and waits.
    pub fn stop(mut self) -> (ExitStatus, Vec<String>) {
        self.signal(Signal::TERM);
        let status = self.ends();
        (status, self.printed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                let printed = self.printed();
                let last: VecDeque<&String> = printed.iter().rev().take(40).collect();
                eprintln!("--- the last lines of {}:", self.name);
                for line in last.iter().rev() {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// Runs a command to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs a command that must succeed; gives what it printed on standard output.
pub fn runs(folder: &Path, arguments: &[&str]) -> String {
    let output = run(folder, arguments);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "pingward {arguments:?} ended with {}\n{out}\n{err}", output.status);
    out.to_string()
}

/// Runs a command that must be refused; gives its exit code and what it printed on standard error.
pub fn refused(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(folder, arguments);
    let err = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success(), "pingward {arguments:?} should have been refused\n{err}");
    (output.status.code().unwrap_or(-1), err)
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body as JSON; null when it is none.
    pub json: Value,
    /// The body as text.
    pub text: String,
}

/// One request over a connection of its own. `Err` when nobody answers.
pub fn request(api: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(api.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {api}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let all = String::from_utf8_lossy(&all).to_string();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    if status == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let text =
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunk(body) } else { body.to_string() };
    Ok(Answer { status, json: serde_json::from_str(&text).unwrap_or(Value::Null), text })
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(rest.get(..size).unwrap_or(rest));
        body = rest.get(size + 2..).unwrap_or("");
    }
    whole
}

/// Reads; the answer must be a 200.
pub fn get(api: &str, path: &str) -> Value {
    let answer = request(api, "GET", path, &[], b"").unwrap_or_else(|error| panic!("GET {path}: {error}"));
    assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
    answer.json
}

/// Reads, where nobody may be there yet.
pub fn try_get(api: &str, path: &str) -> Option<Value> {
    request(api, "GET", path, &[], b"").ok().filter(|answer| answer.status == 200).map(|answer| answer.json)
}

/// The last settled round.
pub fn round(api: &str) -> u64 {
    try_get(api, "/v1/status").and_then(|status| status["round"].as_u64()).unwrap_or(0)
}

/// Waits until a round is settled.
pub fn settled(api: &str, wanted: u64) {
    until(&format!("round {wanted}"), || (round(api) >= wanted).then_some(()));
}

/// The member of a name, as `/v1/nodes/{node}` shows it.
pub fn member(api: &str, name: &str) -> Option<Value> {
    let nodes = try_get(api, "/v1/nodes?limit=1000")?;
    let node = nodes["nodes"].as_array()?.iter().find(|node| node["name"] == name)?["node"].as_str()?.to_string();
    try_get(api, &format!("/v1/nodes/{node}"))
}

/// Waits until a member has a standing; gives it.
pub fn standing(api: &str, name: &str, wanted: &str) -> Value {
    until(&format!("{name} to be {wanted}"), || member(api, name).filter(|member| member["standing"] == wanted))
}

/// A round as `/v1/rounds/{n}` shows it.
pub fn round_of(api: &str, number: u64) -> Value {
    get(api, &format!("/v1/rounds/{number}"))
}

/// A super or follower in a folder of its own: `node.toml`, key and data.
#[derive(Clone)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// `http://host:port` of its API.
    pub api: String,
    /// `host:port` of its gRPC, where it is a super.
    pub grpc: String,
}

impl Site {
    /// Writes the config of a super; `more` is TOML that goes on in `[round]`.
    pub fn of_super(parent: &Path, name: &str, interval_ms: u64, more: &str) -> Self {
        let site = Self::new(parent, name);
        let (grpc, rest) = (&site.grpc, site.api.trim_start_matches("http://"));
        let text = format!(
            "[node]\nrole = \"super\"\nname = \"{name}\"\n[listen]\ngrpc = \"{grpc}\"\nrest = \"{rest}\"\n\
             [cluster]\nsupers = [\"{grpc}\"]\n[round]\ninterval_ms = {interval_ms}\n{more}"
        );
        std::fs::write(site.folder.join("node.toml"), text).unwrap();
        site
    }

    /// Writes the config of a follower of a super.
    pub fn of_follower(parent: &Path, name: &str, of: &Self) -> Self {
        let site = Self::new(parent, name);
        let (rest, supers, port) = (site.api.trim_start_matches("http://"), &of.grpc, free_port());
        let text = format!(
            "[node]\nrole = \"follower\"\nname = \"{name}\"\n[listen]\nrest = \"{rest}\"\n\
             [cluster]\nsupers = [\"{supers}\"]\n[follower]\nconnect_port = {port}\n"
        );
        std::fs::write(site.folder.join("node.toml"), text).unwrap();
        site
    }

    fn new(parent: &Path, name: &str) -> Self {
        let folder = parent.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let (api, grpc) = (format!("http://127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        Self { name: name.to_string(), folder, api, grpc }
    }

    /// Starts it and waits until it is alive.
    pub fn start(&self) -> Process {
        let process = Process::start(&self.name, &self.folder, &["run", "--config", "node.toml"]);
        until(&format!("{} to be alive", self.name), || {
            request(&self.api, "GET", "/livez", &[], b"").ok().filter(|answer| answer.status == 200)
        });
        process
    }

    /// Runs an operator's command in its folder: the admin socket is found through `node.toml`.
    pub fn operates(&self, arguments: &[&str]) -> String {
        runs(&self.folder, arguments)
    }
}
