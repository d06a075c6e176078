//! A super as a process of its own, and what can be seen of it from outside: its REST, and what the system says of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Set for the process that is to be the node.
pub(crate) const AS_NODE: &str = "BENCH_AS_NODE";

const CLUSTER: &str = "bench";
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
    /// Starts one in a directory: the binary that is named, or this one in the node's part.
    pub(crate) fn start(binary: Option<&Path>, dir: &Path, round_ms: u64) -> Result<Self> {
        let (grpc, rest) = (free_address()?, free_address()?);
        let config = dir.join("node.toml");
        std::fs::write(
            &config,
            format!(
                "[node]\nrole = \"super\"\nname = \"super-1\"\n\n[listen]\ngrpc = \"{grpc}\"\nrest = \"{rest}\"\n\n\
                 [cluster]\nid = \"{CLUSTER}\"\nsupers = [\"{grpc}\"]\n\n\
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
        let mut process = Self { child, grpc, rest };
        let since = Instant::now();
        while process.get("/readyz").is_err() {
            if let Some(status) = process.child.try_wait()? {
                let said = std::fs::read_to_string(dir.join("super.log"))?;
                bail!("the super ended ({status}):\n{said}");
            }
            ensure!(since.elapsed() < START, "the super is not ready after {} s", START.as_secs());
            std::thread::sleep(LOOK);
        }
        Ok(process)
    }

    /// The id that its followers name.
    pub(crate) const fn cluster(&self) -> &'static str {
        CLUSTER
    }

    /// The last settled round.
    pub(crate) fn settled(&self) -> Result<u64> {
        self.json("/v1/status")?.get("round").and_then(Value::as_u64).context("no `round` in /v1/status")
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

    /// The body of an answer 200.
    fn get(&self, route: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.rest, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        // HTTP/1.0: the body ends with the connection.
        write!(stream, "GET {route} HTTP/1.0\r\nHost: {}\r\n\r\n", self.rest)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("half an answer to {route}"))?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        ensure!(status == "200", "{route} answered {status}: {body}");
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
