//! Supers as processes: started, added to the group, killed, paused, cut off.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Method;
use kernel::id::NodeId;
use node::client::Api;
use node::config::PeerAddress;
use node::keys::NodeKey;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::net::{Net, Place};
use crate::process::Process;

/// For anything to come about. A net, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// For an answer of a super that may be paused or cut off.
const ANSWER: Duration = Duration::from_secs(3);
const CLUSTER: &str = "faults";

/// Asks until there is an answer.
///
/// # Errors
/// There is none within [`PATIENCE`].
pub async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        ensure!(since.elapsed() < PATIENCE, "waited {} s for {what}", PATIENCE.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads what one super says, within the time that one that runs needs.
pub async fn read(api: &Api, route: &str) -> Option<Value> {
    tokio::time::timeout(ANSWER, api.get(route)).await.ok()?.ok()
}

/// Reads what must be there.
///
/// # Errors
/// What the API says.
pub async fn get(api: &Api, route: &str) -> Result<Value> {
    api.get(route).await.map_err(|failure| anyhow!("{failure}"))
}

/// All supers, whether they run or not.
#[derive(Debug)]
pub struct Supers {
    /// The network between them.
    pub net: Net,
    dir: PathBuf,
    program: PathBuf,
    round_ms: u64,
    supers: Vec<Super>,
}

/// One super.
#[derive(Debug)]
pub struct Super {
    /// Its key.
    pub key: NodeId,
    /// Where it is.
    pub place: Place,
    /// It votes in the group.
    pub is_member: bool,
    folder: PathBuf,
    process: Process,
}

impl Super {
    /// Its API.
    ///
    /// # Errors
    /// None that is expected.
    pub fn api(&self) -> Result<Api> {
        Api::url(&format!("http://{}", self.place.rest)).map_err(|failure| anyhow!("{failure}"))
    }

    /// Its API for its operator.
    #[must_use]
    pub fn admin(&self) -> Api {
        Api::socket(&self.folder.join("data/admin.sock"))
    }
}

impl Supers {
    /// None yet; their files will be in `dir`.
    #[must_use]
    pub const fn new(net: Net, dir: PathBuf, program: PathBuf, round_ms: u64) -> Self {
        Self { net, dir, program, round_ms, supers: Vec::new() }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Super] {
        &self.supers
    }

    /// One of them.
    ///
    /// # Errors
    /// There is no such number.
    pub fn one(&self, at: usize) -> Result<&Super> {
        self.supers.get(at).with_context(|| format!("there is no super {at}"))
    }

    fn one_mut(&mut self, at: usize) -> Result<&mut Super> {
        self.supers.get_mut(at).with_context(|| format!("there is no super {at}"))
    }

    /// Numbers of those that vote.
    #[must_use]
    pub fn members(&self) -> Vec<usize> {
        self.supers.iter().enumerate().filter(|(_, one)| one.is_member).map(|(at, _)| at).collect()
    }

    /// Where members are reached, with their keys.
    #[must_use]
    pub fn addresses(&self) -> Vec<PeerAddress> {
        let members = self.supers.iter().filter(|one| one.is_member);
        members
            .map(|one| PeerAddress {
                key: Some(one.key),
                host: one.place.reached.ip().to_string(),
                port: one.place.reached.port(),
            })
            .collect()
    }

    /// Makes and starts another super: the first one founds, the others wait to be added.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start_another(&mut self) -> Result<usize> {
        let at = self.supers.len();
        let place = self.net.place(at)?;
        let folder = self.dir.join(format!("super-{}", at + 1));
        std::fs::create_dir_all(&folder)?;
        let key = NodeKey::load_or_create(&folder.join("node.key"))?.0.id();
        let others = self.supers.iter().filter(|one| one.is_member);
        let others = others.map(|one| format!("\"{}@{}\"", one.key, one.place.reached));
        let supers: Vec<String> = std::iter::once(format!("\"{key}@{}\"", place.reached)).chain(others).collect();
        let (name, round_ms) = (format!("super-{}", at + 1), self.round_ms);
        // One miss is a strike, and one strike a warning: nothing that is undeserved stays unseen. All followers are of one
        // network group here.
        let text = format!(
            "[node]\nrole = \"super\"\nname = \"{name}\"\n\n[listen]\ngrpc = \"{}\"\nrest = \"{}\"\n\n[cluster]\n\
             id = \"{CLUSTER}\"\nsupers = [{}]\n\n[round]\ninterval_ms = {round_ms}\nping_timeout_ms = {}\n\
             require_declared_port = {}\n\n[guardrails]\njoins_group_round = 1000000\ngroup_members = 1000000\nwallet_fee = 0\n\n\
             [policy.reward]\ncomponent = \"builtin:reward-flat\"\nconfig = {{ points_per_round = 100 }}\n\n\
             [policy.ban]\ncomponent = \"builtin:ban-strikes\"\n\
             config = {{ warn = 1, suspend = 2, ban = 3, ban_rounds = 10 }}\n",
            place.grpc,
            place.rest,
            supers.join(", "),
            round_ms / 2,
            self.net.keeps_ports(),
        );
        std::fs::write(folder.join("node.toml"), text)?;
        let process = Process::new(folder.clone());
        self.supers.push(Super { key, place, is_member: at == 0, folder, process });
        self.start(at).await?;
        Ok(at)
    }

    /// Starts a super's process and waits until it is alive.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start(&mut self, at: usize) -> Result<()> {
        let command = self.net.command(at, &self.program);
        let number = self.one_mut(at)?.process.start(command)?;
        self.net.runs(at, number);
        let api = self.one(at)?.api()?;
        let alive =
            until("a super to be alive", async || read(&api, "/livez").await.or(read(&api, "/v1/status").await));
        let alive = alive.await.map(drop);
        alive.with_context(|| self.one(at).map(|one| one.process.last_words()).unwrap_or_default())
    }

    /// Kills a super's process as a power cut would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, at: usize) -> Result<()> {
        self.one_mut(at)?.process.kill()
    }

    /// Stops a super's process where it is.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, at: usize) -> Result<()> {
        self.one(at)?.process.signal(Signal::STOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn go_on(&self, at: usize) -> Result<()> {
        self.one(at)?.process.signal(Signal::CONT)
    }

    /// Who leads, as the leader itself says.
    ///
    /// # Errors
    /// Nobody does for too long.
    pub async fn leader(&self) -> Result<usize> {
        until("a leader", async || {
            for at in self.members() {
                let one = self.supers.get(at)?;
                let status = read(&one.api().ok()?, "/v1/status").await;
                if status.is_some_and(|status| status["leader"] == one.key.to_string()) {
                    return Some(at);
                }
            }
            None
        })
        .await
    }

    /// Adds a super that waits to the group and makes it a voter.
    ///
    /// # Errors
    /// What the group says.
    pub async fn add(&mut self, at: usize) -> Result<()> {
        let (key, address) = (self.one(at)?.key, self.one(at)?.place.reached.to_string());
        let body = json!({ "node": key.to_string(), "address": address });
        self.change(Method::POST, "/v1/cluster/members", &body, "already_member").await?;
        let route = format!("/v1/cluster/members/{key}/promote");
        self.change(Method::POST, &route, &json!({}), "already_member").await?;
        self.one_mut(at)?.is_member = true;
        Ok(())
    }

    /// Removes a super from the group, and ends it.
    ///
    /// # Errors
    /// What the group says.
    pub async fn remove(&mut self, at: usize) -> Result<()> {
        let route = format!("/v1/cluster/members/{}", self.one(at)?.key);
        self.one_mut(at)?.is_member = false;
        self.change(Method::DELETE, &route, &json!({}), "unknown_member").await?;
        self.kill(at)
    }

    /// Asks members until the change is done: what has no known end is asked again, and `done` says that it was.
    async fn change(&self, method: Method, route: &str, body: &Value, done: &str) -> Result<()> {
        let mut last = String::new();
        let what = format!("{method} {route}");
        let changed = until(&what, async || {
            for at in self.members() {
                let admin = self.supers.get(at)?.admin();
                match tokio::time::timeout(PATIENCE, admin.send(method.clone(), route, body)).await {
                    Ok(Ok(_)) => return Some(()),
                    Ok(Err(failure)) if failure.code.as_deref() == Some(done) => return Some(()),
                    Ok(Err(failure)) => last = failure.to_string(),
                    Err(_) => "no answer".clone_into(&mut last),
                }
            }
            None
        });
        changed.await.with_context(|| last.clone())
    }

    /// Waits until all members vote, answer the leader and have all of its log, and two more rounds are settled.
    ///
    /// # Errors
    /// They do not.
    pub async fn well(&self) -> Result<()> {
        let mut why = String::new();
        let well = until("all members to be well", async || match self.ailing().await {
            Ok(None) => Some(()),
            Ok(Some(ailing)) => {
                why = ailing;
                None
            }
            Err(error) => {
                why = format!("{error:#}");
                None
            }
        });
        let well = well.await;
        well.with_context(|| format!("{why}\n{}", self.all_last_words()))?;
        let now = self.settled().await?;
        let settled = until("two more rounds", async || (self.settled().await.ok()? >= now + 2).then_some(()));
        settled.await.with_context(|| self.all_last_words())
    }

    /// What is not as it should be.
    async fn ailing(&self) -> Result<Option<String>> {
        let members = self.members();
        let leader = self.one(self.leader().await?)?;
        let Some(list) = read(&leader.admin(), "/v1/cluster/members?read=local").await else {
            return Ok(Some("the leader does not tell its members".into()));
        };
        let rows = list["members"].as_array().context("members")?;
        let is_well = |row: &Value| {
            row["state"] == "voter"
                && row["seat"].is_u64()
                && (row["leader"] == true || row["reachable"] == true && row["lag"].as_u64() < Some(64))
        };
        if rows.len() != members.len() || !rows.iter().all(is_well) {
            return Ok(Some(format!("the leader says of the members: {list}")));
        }
        for at in members {
            if read(&self.one(at)?.api()?, "/v1/status").await.is_none() {
                return Ok(Some(format!("super-{} does not answer", at + 1)));
            }
        }
        Ok(None)
    }

    /// What each super printed last.
    #[must_use]
    pub fn all_last_words(&self) -> String {
        let words = self.supers.iter().enumerate();
        let words = words.map(|(at, one)| format!("--- super-{} said last:\n{}", at + 1, one.process.last_words()));
        words.collect::<Vec<_>>().join("\n")
    }

    /// The last round that any member has settled.
    ///
    /// # Errors
    /// Nobody answers for too long.
    pub async fn settled(&self) -> Result<u64> {
        until("somebody to say which round is settled", async || {
            let mut latest = None;
            for at in self.members() {
                let status = read(&self.supers.get(at)?.api().ok()?, "/v1/status").await;
                latest = latest.max(status.and_then(|status| status["round"].as_u64()));
            }
            latest
        })
        .await
    }
}
