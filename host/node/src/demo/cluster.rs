//! The nodes of the demo: started, killed, started again, made to misbehave.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel::command::{Amount, Command, Operate, Operation, Operator};
use kernel::decide::Slot;
use kernel::id::NodeId;
use kernel::outcome::{Notice, Reply};
use kernel::standing::Standing;
use kernel::state::State;
use policy::Compiler;
use tokio::sync::broadcast::Receiver;

use super::Options;
use super::screen::Row;
use crate::builtin;
use crate::client::{Api, claim};
use crate::config::{Component, Config, PolicySource, Role, Storage, json, nearest};
use crate::context::{Context, SuperPart};
use crate::failure::Failure;
use crate::group::Disks;
use crate::keys::NodeKey;
use crate::prepare::{Outcome, memory_words};
use crate::rest::problem::Problem;
use crate::roles::follower::FollowerFaults;
use crate::server::{Node, StartParts};

const SUPER: &str = "super-1";
const CLUSTER: &str = "demo";
/// Four misses lead to a ban of five rounds, so that a whole life is seen within fifteen rounds.
const BAN_CONFIG: &str = r#"{"ban":4,"ban_rounds":5,"suspend":2,"warn":1}"#;
/// Nodes that start at once: each one makes a certificate and a handshake.
const STARTING: usize = 32;

/// All nodes.
pub struct Cluster {
    lead: Member,
    followers: Vec<Member>,
    flaky: usize,
    round_ms: u64,
    /// How often the super was started: a new one has new notices.
    started: u64,
}

/// One node: what it needs to be started again, and the node while it runs.
struct Member {
    key: NodeKey,
    config: Config,
    disk: Option<Disks>,
    faults: Arc<FollowerFaults>,
    compiler: Compiler,
    node: Option<Node>,
    /// What the running node shows.
    context: Option<Arc<Context>>,
}

impl Member {
    fn new(role: Role, name: &str, options: &Options) -> Result<Self, Failure> {
        let dir = options.data_dir.as_ref().map_or_else(PathBuf::new, |dir| dir.join(name));
        let mut config = Config::in_memory(role, name, &dir);
        config.cluster_id = CLUSTER.into();
        let key = if options.data_dir.is_some() {
            config.storage = Storage::Disk;
            NodeKey::load_or_create(&config.key_file).map_err(anyhow::Error::new)?.0
        } else {
            NodeKey::generate().map_err(anyhow::Error::new)?
        };
        let disk = options.data_dir.is_none().then(Disks::memory);
        let compiler = options.compiler.clone();
        Ok(Self { key, config, disk, faults: Arc::default(), compiler, node: None, context: None })
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let parts = StartParts {
            disk: self.disk.clone(),
            key: Some(self.key.clone()),
            faults: Arc::clone(&self.faults),
            compiler: self.compiler.clone(),
            ..StartParts::default()
        };
        let node = Node::start(self.config.clone(), parts).await.map_err(|error| {
            Failure::new(
                format!("{} cannot start: {error:#}", self.name()),
                "the line before says why; `pingward demo --help` lists what can be changed",
            )
        })?;
        self.context = Some(node.context());
        self.node = Some(node);
        Ok(())
    }
}

impl Cluster {
    /// Starts the super.
    pub async fn start_super(options: &Options) -> Result<Self, Failure> {
        check_free(options.rest)?;
        let mut lead = Member::new(Role::Super, SUPER, options)?;
        lead.config.rest = options.rest;
        lead.config.public_addresses = true;
        lead.config.policies = policies(options);
        let interval = options.round_ms.to_string();
        lead.config
            .settings
            .set("round.interval_ms", &interval)
            .map_err(|error| Failure::usage(format!("--round-ms {interval}: {error}"), "1000 is the default"))?;
        lead.config.settings_said.push(("round.interval_ms".into(), interval));
        lead.start().await?;
        if let Some(node) = &lead.node {
            // It comes back where it was, so that everybody finds it.
            lead.config.rest = node.rest_address();
            lead.config.grpc = node.grpc_address().unwrap_or(lead.config.grpc);
        }
        Ok(Self { lead, followers: Vec::new(), flaky: options.flaky.into(), round_ms: options.round_ms, started: 1 })
    }

    /// Starts the followers.
    pub async fn start_followers(&mut self, options: &Options) -> Result<(), Failure> {
        for number in 1..=options.followers {
            let mut member = Member::new(Role::Follower, &format!("follower-{number}"), options)?;
            member.config.supers = vec![crate::config::PeerAddress {
                key: Some(self.lead.key.id()),
                host: self.lead.config.grpc.ip().to_string(),
                port: self.lead.config.grpc.port(),
            }];
            member.config.rest = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            self.followers.push(member);
        }
        for some in self.followers.chunks_mut(STARTING) {
            let mut starting = tokio::task::JoinSet::new();
            for (at, member) in some.iter().enumerate() {
                let parts = StartParts {
                    disk: member.disk.clone(),
                    key: Some(member.key.clone()),
                    faults: Arc::clone(&member.faults),
                    ..StartParts::default()
                };
                let config = member.config.clone();
                starting.spawn(async move { (at, Node::start(config, parts).await) });
            }
            while let Some(started) = starting.join_next().await {
                let (at, node) =
                    started.map_err(|error| Failure::plain(format!("a follower's start ended: {error}")))?;
                let node = node.map_err(|error| {
                    Failure::new(
                        format!("a follower cannot start: {error:#}"),
                        "try fewer with --followers N, or raise the limit of open files (`ulimit -n`)",
                    )
                })?;
                if let Some(member) = some.get_mut(at) {
                    member.context = Some(node.context());
                    member.node = Some(node);
                }
            }
        }
        Ok(())
    }

    /// Where the super's API is.
    pub fn rest_url(&self) -> String {
        format!("http://{}", self.lead.config.rest)
    }

    /// What the demo is, in a line or two.
    pub fn greeting(&self) -> String {
        let id = self.read(|state| state.meta.cluster.to_string()).unwrap_or_default();
        let flaky = self.flaky();
        let flaky = if flaky.is_empty() { "none of them flaky".into() } else { format!("flaky: {}", flaky.join(", ")) };
        format!("cluster {id}: 1 super, {} followers ({flaky}), rounds of {} ms", self.followers.len(), self.round_ms)
    }

    /// Names of the followers that play the script: the last ones.
    pub fn flaky(&self) -> Vec<String> {
        let good = self.followers.len().saturating_sub(self.flaky);
        self.followers.iter().skip(good).map(|member| member.name().to_string()).collect()
    }

    fn lead_part(&self) -> Option<&SuperPart> {
        self.lead.context.as_ref().and_then(|context| context.as_super())
    }

    /// Reads the cluster; `None` while the super is killed.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> Option<T> {
        self.lead_part().map(|part| part.group.read(f))
    }

    /// What happens from now on; `None` while the super is killed.
    pub fn notices(&self) -> Option<Receiver<Arc<Notice>>> {
        self.lead_part().map(|part| part.group.notices())
    }

    /// How often the super was started.
    pub const fn started(&self) -> u64 {
        self.started
    }

    /// Waits until the super fails by itself, and says why.
    pub async fn failed(&self) -> String {
        match &self.lead.node {
            Some(node) => node.failed().await,
            None => std::future::pending().await,
        }
    }

    fn find(&mut self, name: &str) -> Result<&mut Member, Failure> {
        if name == SUPER {
            return Ok(&mut self.lead);
        }
        let at = self.followers.iter().position(|member| member.name() == name);
        match at {
            Some(at) => self.followers.get_mut(at).ok_or_else(|| Failure::plain("it is gone")),
            None => {
                let names = std::iter::once(SUPER).chain(self.followers.iter().map(Member::name));
                let near = nearest(name, names).map(|near| format!("did you mean `{near}`?"));
                let all = format!("the nodes are {SUPER} and follower-1 to follower-{}", self.followers.len());
                Err(Failure::new(format!("there is no node `{name}`"), near.unwrap_or(all)))
            }
        }
    }

    /// The key of a follower.
    pub fn key_of(&self, name: &str) -> Option<NodeId> {
        self.followers.iter().find(|member| member.name() == name).map(|member| member.key.id())
    }

    /// Whether a follower's process, so to speak, runs.
    pub fn is_up(&self, name: &str) -> bool {
        self.followers.iter().any(|member| member.name() == name && member.node.is_some())
    }

    /// Makes a follower hang up and stay away, or come back.
    pub fn silence(&mut self, name: &str, silent: bool) {
        if let Ok(member) = self.find(name) {
            member.faults.change(|faults| faults.offline = silent);
        }
    }

    /// A claim of a follower over the API: all that it earned, or so much more than that.
    pub async fn claim(&mut self, name: &str, excess: Option<u64>) -> Result<(), Failure> {
        if name == SUPER {
            return Err(Failure::new("a super earns nothing", "name a follower"));
        }
        let key = self.find(name)?.key.clone();
        let earned = self.read(|state| state.members.get(&key.id()).map_or(0, |member| member.hot.earned.0));
        let Some(earned) = earned else {
            return Err(Failure::new(
                format!("{SUPER} is killed, and claims go to it"),
                format!("`restart {SUPER}` first"),
            ));
        };
        let amount = match excess {
            Some(excess) => Amount::Exactly(u64::try_from(earned).unwrap_or(0).saturating_add(excess)),
            None => Amount::All,
        };
        claim(&Api::url(&self.rest_url())?, &key, amount, None, None).await.map(drop)
    }

    /// Ends a node at once.
    pub async fn kill(&mut self, name: &str) -> Result<String, Failure> {
        let member = self.find(name)?;
        let Some(node) = member.node.take() else {
            return Err(Failure::new(format!("{name} is killed already"), format!("`restart {name}` starts it again")));
        };
        member.context = None;
        node.kill().await;
        Ok(if name == SUPER {
            format!(
                "killed {name}, as with kill -9: no rounds until `restart {name}`; after it nobody is struck for the gap"
            )
        } else {
            format!(
                "killed {name}, as with kill -9: it misses its turns and is warned, suspended, then banned; `restart {name}` starts it again"
            )
        })
    }

    /// Starts a node again, as after a kill.
    pub async fn restart(&mut self, name: &str) -> Result<String, Failure> {
        let member = self.find(name)?;
        if let Some(node) = member.node.take() {
            member.context = None;
            node.kill().await;
        }
        member.faults.change(|faults| faults.offline = false);
        let id = member.key.id();
        member.start().await?;
        if name == SUPER {
            self.started += 1;
            return Ok(format!("restarted {name} with what was on its disk: followers come back by themselves"));
        }
        let banned = self
            .read(|state| state.members.get(&id).filter(|m| m.hot.standing == Standing::Banned).map(|m| m.hot.until));
        Ok(match banned.flatten() {
            Some(until) => format!(
                "restarted {name}: it is refused until its ban is over, after round {until}, and comes back on probation"
            ),
            None => format!("restarted {name}: it attaches and answers from the next round on"),
        })
    }

    /// Another rule in a slot. What it gives may take seconds, in which a rule is compiled, and borrows nothing.
    pub fn swap(
        &self,
        slot: Slot,
        component: &str,
        config: Option<&str>,
    ) -> Result<impl Future<Output = Result<String, Failure>> + use<>, Failure> {
        let Some(part) = self.lead_part() else {
            return Err(Failure::new(format!("{SUPER} is killed"), format!("`restart {SUPER}` first")));
        };
        let source = source(slot, component, config)
            .map_err(|error| Failure::new(format!("the config: {error}"), "write it as JSON, such as {\"warn\":3}"))?;
        let (policies, component) = (part.policies.clone(), component.to_string());
        Ok(async move {
            let outcome = policies.swap(slot, &source, Operator::Console).await;
            let outcome = outcome.map_err(|error| Failure::new(error.to_string(), "wait a round and try again"))?;
            swapped(slot, &component, outcome)
        })
    }

    /// An operator's decision, as the console's.
    pub async fn operate(&self, what: Operation) -> Result<String, Failure> {
        let Some(part) = self.lead_part() else {
            return Err(Failure::new(format!("{SUPER} is killed"), format!("`restart {SUPER}` first")));
        };
        let by = Operator::Console;
        let operate = Operate { by, reason: "typed by hand".into(), now_ms: part.group.now_ms(), what };
        match part.group.propose(Command::Operate(operate)).await {
            Ok(Ok(Reply::From { round, .. })) => Ok(format!("it counts from round {round} on")),
            Ok(Ok(Reply::Changed { count })) => {
                Ok(format!("accepted: the {count} members that were up in the last round are the measure from now on"))
            }
            Ok(Ok(_)) => Ok("accepted: it takes effect with the next settlement".into()),
            Ok(Err(reject)) => Err(Failure::plain(Problem::from(reject).detail)),
            Err(error) => Err(Failure::plain(error.to_string())),
        }
    }

    /// What the table shows above its rows.
    pub fn headline(&self) -> String {
        let url = self.rest_url();
        let state = self.read(|state| (state.meta.settled, state.meta.treasury.0));
        let up = self.followers.iter().filter(|member| member.node.is_some()).count();
        match state {
            Some((settled, treasury)) => format!(
                "{SUPER} {url}   round {settled} settled   {up} of {} followers running   {} points issued",
                self.followers.len(),
                0_i64.saturating_sub(treasury)
            ),
            None => {
                format!("{SUPER} is killed: `restart {SUPER}`   {up} of {} followers running", self.followers.len())
            }
        }
    }

    /// A row for each follower.
    pub fn rows(&self) -> Vec<Row> {
        let all = self.read(|state| self.followers.iter().map(|member| row(member, Some(state))).collect());
        all.unwrap_or_else(|| self.followers.iter().map(|member| row(member, None)).collect())
    }

    /// Ends everything. The super first: what the others do when they lose it is nobody's fault.
    ///
    /// # Errors
    /// What the super could not finish.
    pub async fn stop(self) -> Result<(), Failure> {
        let stopped = match self.lead.node {
            Some(node) => node.stop().await,
            None => Ok(()),
        };
        for member in self.followers {
            if let Some(node) = member.node {
                node.kill().await;
            }
        }
        Ok(stopped?)
    }
}

fn row(follower: &Member, state: Option<&State>) -> Row {
    let id = follower.key.id();
    let member = state.and_then(|state| state.members.get(&id));
    let wallet = state.and_then(|state| state.wallets.get(&id)).map_or(0, |wallet| wallet.balance.0);
    let mut notes = Vec::new();
    if follower.node.is_none() {
        notes.push("killed".into());
    } else if follower.faults.now().offline {
        notes.push("silent".into());
    }
    if let Some(member) = member {
        if member.hot.standing == Standing::Banned {
            notes.push(format!("until round {}", member.hot.until));
        } else if !member.hot.place.is_queued() {
            notes.push("not in the queue".into());
        }
    }
    Row {
        name: follower.name().into(),
        key: id.short(),
        presence: member.and_then(|member| member.hot.presence.name()).unwrap_or(crate::text::NONE),
        standing: member.map_or("", |member| member.hot.standing.name()),
        strikes: member.map_or(0, |member| member.hot.strikes),
        earned: member.map_or(0, |member| member.hot.earned.0),
        wallet,
        penalties: member.map_or(0, |member| member.hot.penalties.0),
        rtt_us: member.map_or(0, |member| member.hot.rtt_us),
        note: notes.join(", "),
    }
}

/// The default rules with the demo's numbers, or those that were named.
fn policies(options: &Options) -> std::collections::BTreeMap<Slot, PolicySource> {
    let default = Slot::ALL.into_iter().map(|slot| {
        let builtin = builtin::of(slot);
        (
            slot,
            PolicySource {
                component: Component::Builtin(builtin.name.into()),
                config: default_config(slot, builtin.name).into(),
            },
        )
    });
    default.chain(options.policies.iter().cloned()).collect()
}

fn default_config(slot: Slot, builtin: &str) -> &'static str {
    match (slot, builtin::find(builtin)) {
        (Slot::Ban, Some(found)) if found.name == builtin::of(Slot::Ban).name => BAN_CONFIG,
        (Slot::Reward | Slot::Ban, Some(found)) => found.config,
        (Slot::Reward | Slot::Ban, None) => "{}",
    }
}

/// A rule as people name it: `builtin:NAME` or a path, with or without a config.
pub fn source(slot: Slot, component: &str, config: Option<&str>) -> Result<PolicySource, json::JsonError> {
    let (component, default) = match component.strip_prefix("builtin:") {
        Some(name) => (Component::Builtin(name.into()), default_config(slot, name)),
        None => (Component::File(Path::new(component).into()), "{}"),
    };
    Ok(PolicySource { component, config: config.map_or_else(|| Ok(default.into()), json::canonical)? })
}

/// A port that is taken is the one thing that goes wrong on many machines: it is told before anything starts.
fn check_free(address: SocketAddr) -> Result<(), Failure> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Failure::new(
            format!("{address} is taken: another program listens there, maybe another demo"),
            "let the system choose a port with `--rest 127.0.0.1:0`, or name one with `--rest IP:PORT`",
        )),
        Err(error) => Err(Failure::new(
            format!("{address} cannot be listened on: {error}"),
            "name an address of this machine with `--rest IP:PORT`",
        )),
    }
}

/// What became of a swap, in words.
fn swapped(slot: Slot, component: &str, outcome: Outcome) -> Result<String, Failure> {
    Ok(match outcome {
        Outcome::Unchanged { policy } => {
            format!("the {slot} rule {component} decides already, or is scheduled ({policy}): nothing changes")
        }
        Outcome::LogWins { .. } => format!("the {slot} rule stays: the cluster has decided otherwise"),
        Outcome::Scheduled(new) => format!(
            "the {slot} rule {} decides from round {} on ({}); {}. No ping is lost and no stream drops",
            new.name,
            new.from,
            new.policy,
            memory_words(new.memory_empty)
        ),
        Outcome::Refused { component, findings } => {
            let what =
                format!("{component} is refused, and the {slot} rule before it goes on:\n  {}", findings.join("\n  "));
            return Err(Failure::plain(what));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_its_cure() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let failure = check_free(taken.local_addr().unwrap()).unwrap_err();
        assert!(failure.hint.unwrap().contains("--rest 127.0.0.1:0"));
        assert!(check_free("127.0.0.1:0".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_rule_without_config_has_the_demos_numbers() {
        let ban = source(Slot::Ban, "builtin:ban-strikes", None).unwrap();
        assert_eq!(ban.config, BAN_CONFIG);
        let file = source(Slot::Ban, "my.wasm", Some("{ \"b\": 1, \"a\": 2 }")).unwrap();
        assert_eq!((file.component.to_string().as_str(), file.config.as_str()), ("my.wasm", r#"{"a":2,"b":1}"#));
        assert_eq!(source(Slot::Ban, "my.wasm", None).unwrap().config, "{}");
        assert!(source(Slot::Ban, "my.wasm", Some("{")).is_err());
    }
}
