//! A super as a process of its own, and what can be seen of it from outside: its REST, and what the system says of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Set for the process that is to be the node.
pub(crate) const AS_NODE: &str = "BENCH_AS_NODE";

/// For a super to answer after its start.
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Rounds of one page.
const PAGE: u64 = 1_000;

/// A running super. It is killed when this is dropped.
pub(crate) struct SuperProcess {
    child: Child,
    /// Where followers attach.
    pub(crate) grpc: SocketAddr,
    rest: SocketAddr,
    /// What its operator shows.
    token: PathBuf,
}

/// A settled round, as the API shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) suspect: bool,
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) unknown: u64,
}

impl SuperProcess {
    /// The id that its followers name.
    pub(crate) const CLUSTER: &str = "bench";

    /// Starts so many as one group, each in a directory of its own: the binary that is named, or this one in the node's part.
    pub(crate) fn group(binary: Option<&Path>, dir: &Path, round_ms: u64, supers: u16) -> Result<Vec<Self>> {
        let mut group: Vec<Self> = Vec::new();
        for number in 1..=supers {
            let dir = dir.join(format!("super-{number}"));
            std::fs::create_dir(&dir)?;
            let process = Self::start(binary, &dir, round_ms, number, group.first().map(|first| first.grpc))?;
            if let Some(first) = group.first() {
                first.takes_in(&process)?;
            }
            group.push(process);
        }
        Ok(group)
    }

    /// Adds a super that waits, and makes it a voter.
    fn takes_in(&self, other: &Self) -> Result<()> {
        let status = other.json("/v1/status")?;
        let node = status.get("node").and_then(Value::as_str).context("no `node` in /v1/status")?;
        let body = serde_json::json!({ "node": node, "address": other.grpc.to_string() }).to_string();
        self.send("/v1/cluster/members", &body)?;
        let (since, route) = (Instant::now(), format!("/v1/cluster/members/{node}/promote"));
        while let Err(error) = self.send(&route, "{}") {
            ensure!(since.elapsed() < START, "a super is no voter after {} s: {error}", START.as_secs());
            std::thread::sleep(LOOK);
        }
        let since = Instant::now();
        while other.get("/readyz").is_err() {
            ensure!(since.elapsed() < START, "a super is not ready after {} s", START.as_secs());
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn start(binary: Option<&Path>, dir: &Path, round_ms: u64, number: u16, first: Option<SocketAddr>) -> Result<Self> {
        let (grpc, rest) = (free_address()?, free_address()?);
        let config = dir.join("node.toml");
        let (names, cluster) = (first.unwrap_or(grpc), Self::CLUSTER);
        std::fs::write(
            &config,
            format!(
                "[node]\nrole = \"super\"\nname = \"super-{number}\"\n\n[listen]\ngrpc = \"{grpc}\"\nrest = \"{rest}\"\n\n\
                 [cluster]\nid = \"{cluster}\"\nsupers = [\"{names}\"]\n\n\
                 [round]\ninterval_ms = {round_ms}\nrequire_declared_port = true\n"
            ),
        )?;
        let binary = binary.map_or_else(std::env::current_exe, |path| Ok(path.to_owned()))?;
        let log = std::fs::File::create(dir.join("super.log"))?;
        let child = Command::new(&binary)
            .args(["run", "--config"])
            .arg(&config)
            .env(AS_NODE, "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut process = Self { child, grpc, rest, token: dir.join("data").join("admin.token") };
        let since = Instant::now();
        // One that waits to be added is not ready before it is.
        let answers = if first.is_some() { "/livez" } else { "/readyz" };
        while process.get(answers).is_err() {
            if let Some(status) = process.child.try_wait()? {
                let said = std::fs::read_to_string(dir.join("super.log"))?;
                bail!("the super ended ({status}):\n{said}");
            }
            ensure!(since.elapsed() < START, "the super is not ready after {} s", START.as_secs());
            std::thread::sleep(LOOK);
        }
        Ok(process)
    }

    /// The last settled round.
    pub(crate) fn settled(&self) -> Result<u64> {
        self.json("/v1/status")?.get("round").and_then(Value::as_u64).context("no `round` in /v1/status")
    }

    /// Members that it knows.
    pub(crate) fn members(&self) -> Result<u64> {
        self.json("/v1/status")?.get("members").and_then(Value::as_u64).context("no `members` in /v1/status")
    }

    /// Members in the queue.
    pub(crate) fn queue(&self) -> Result<u64> {
        self.metric("pingward_queue")
    }

    /// Pings and answers by how they ended.
    pub(crate) fn pongs(&self) -> Result<Vec<(String, u64)>> {
        let text = self.get("/metrics")?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("pingward_pongs_total{outcome=\""));
        lines
            .map(|line| {
                let (outcome, count) = line.split_once("\"} ").context("a line of /metrics")?;
                Ok((outcome.to_owned(), count.parse()?))
            })
            .collect()
    }

    /// The rounds after `first` up to `last`.
    pub(crate) fn rounds(&self, first: u64, last: u64) -> Result<Vec<Round>> {
        let (mut rounds, mut after) = (Vec::new(), first);
        while after < last {
            let page = self.json(&format!("/v1/rounds?after={after}&limit={PAGE}"))?;
            let items = page.get("rounds").and_then(Value::as_array).context("no `rounds` in /v1/rounds")?;
            ensure!(!items.is_empty(), "round {} is not in /v1/rounds", after + 1);
            for item in items {
                let number = |name: &str| item[name].as_u64().with_context(|| format!("no `{name}` in a round"));
                after = number("round")?;
                if after <= last {
                    let suspect = item["suspect"].as_bool().context("no `suspect` in a round")?;
                    rounds.push(Round {
                        suspect,
                        up: number("up")?,
                        down: number("down")?,
                        unknown: number("unknown")?,
                    });
                }
            }
        }
        Ok(rounds)
    }

    /// Processor time that it has used, seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may have spaces; after it come state, and the times as fields 14 and 15 of the line.
        let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
        let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// The most memory that it ever had, MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc/PID/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1_024.0)
    }

    fn metric(&self, name: &str) -> Result<u64> {
        let text = self.get("/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in /metrics"))?.parse()?)
    }

    fn json(&self, route: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.get(route)?)?)
    }

    /// Round trips of the last pongs of all its followers, ms, ascending.
    pub(crate) fn round_trips(&self) -> Result<Vec<f64>> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.json(&format!("/v1/nodes?limit={PAGE}{after}"))?;
            let nodes = page.get("nodes").and_then(Value::as_array).context("no `nodes` in /v1/nodes")?;
            found.extend(
                nodes.iter().filter_map(|node| node.get("rtt_us").and_then(Value::as_f64)).map(|us| us / 1_000.0),
            );
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        found.sort_unstable_by(f64::total_cmp);
        Ok(found)
    }

    /// An operator's decision.
    fn send(&self, route: &str, body: &str) -> Result<String> {
        let token = std::fs::read_to_string(&self.token)?;
        let head = format!(
            "POST {route} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.rest,
            token.trim(),
            body.len()
        );
        self.ask(route, &head)
    }

    /// The body of a good answer.
    fn get(&self, route: &str) -> Result<String> {
        self.ask(route, &format!("GET {route} HTTP/1.0\r\nHost: {}\r\n\r\n", self.rest))
    }

    fn ask(&self, route: &str, request: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.rest, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        // HTTP/1.0: the body ends with the connection.
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("half an answer to {route}"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{route} answered {status}: {body}");
        Ok(body.to_owned())
    }
}

impl Drop for SuperProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// An address that nobody listens on.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
