//! The nodes of the demo: started, killed, started again, made to misbehave.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kernel::command::{Amount, Command, Operate, Operation, Operator};
use kernel::decide::Slot;
use kernel::id::{Digest, NodeId};
use kernel::outcome::{Notice, Reply};
use kernel::records::validators::Validator;
use kernel::standing::Standing;
use kernel::state::State;
use policy::Compiler;
use raft::ChangeError;
use store::Disk;
use tokio::sync::broadcast::Receiver;

use super::Options;
use super::screen::Row;
use crate::builtin;
use crate::client::{Api, claim};
use crate::config::{Component, Config, PeerAddress, PolicySource, Role, Storage, json, nearest};
use crate::context::{Context, RecordsPart, SuperPart};
use crate::failure::Failure;
use crate::group::{Disks, Group, Leadership};
use crate::keys::NodeKey;
use crate::prepare::{Outcome, memory_words};
use crate::rest::problem::Problem;
use crate::roles::follower::FollowerFaults;
use crate::server::{Node, StartParts};
use crate::wires::Wires;

/// The one that founds.
const FOUNDER: &str = "super-1";
/// Until a super that is added has its state and votes.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// Between two attempts to make it a voter.
const JOIN_AGAIN: Duration = Duration::from_millis(100);
/// The longest lag that the console gives: past it nothing would be left of a round.
pub const LAG_AT_MOST: Duration = Duration::from_secs(60);
const CLUSTER: &str = "demo";
/// Four misses lead to a ban of five rounds, so that a whole life is seen within fifteen rounds.
const BAN_CONFIG: &str = r#"{"ban":4,"ban_rounds":5,"suspend":2,"warn":1}"#;
/// Nodes that start at once: each one makes a certificate and a handshake.
const STARTING: usize = 32;

/// All nodes.
pub struct Cluster {
    supers: Vec<Member>,
    validators: Vec<Member>,
    followers: Vec<Member>,
    flaky: usize,
    round_ms: u64,
    wires: Wires,
}

/// One node: what it needs to be started again, and the node while it runs.
struct Member {
    key: NodeKey,
    config: Config,
    disk: Option<Disks>,
    /// Where it keeps sealed records, where that is in memory.
    records: Option<Disk>,
    faults: Arc<FollowerFaults>,
    compiler: Compiler,
    wires: Wires,
    node: Option<Node>,
    /// What the running node shows.
    context: Option<Arc<Context>>,
}

impl Member {
    fn new(role: Role, name: &str, options: &Options, wires: &Wires) -> Result<Self, Failure> {
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
        let keeps = matches!(role, Role::Validator | Role::Follower) && options.data_dir.is_none();
        let records = keeps.then(Disk::memory);
        config.records.raw_open = true;
        let compiler = options.compiler.clone();
        Ok(Self {
            key,
            config,
            disk,
            records,
            faults: Arc::default(),
            compiler,
            wires: wires.clone(),
            node: None,
            context: None,
        })
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn at(&self) -> PeerAddress {
        let grpc = self.config.grpc;
        PeerAddress { key: Some(self.key.id()), host: grpc.ip().to_string(), port: grpc.port() }
    }

    fn part(&self) -> Option<&SuperPart> {
        self.context.as_ref().and_then(|context| context.as_super())
    }

    /// Whether it leads, and may open rounds; `None` when it does not run.
    fn leadership(&self) -> Option<Leadership> {
        let now = *self.part()?.group.leadership().borrow();
        Some(Leadership { ready: now.ready && now.leader == Some(self.key.id()), ..now })
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let parts = StartParts {
            disk: self.disk.clone(),
            records: self.records.clone(),
            key: Some(self.key.clone()),
            faults: Arc::clone(&self.faults),
            compiler: self.compiler.clone(),
            wires: self.wires.clone(),
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
    /// Starts the founder.
    pub async fn start_super(options: &Options) -> Result<Self, Failure> {
        check_free(options.rest)?;
        let wires = Wires::faulty();
        let mut founder = Member::new(Role::Super, FOUNDER, options, &wires)?;
        founder.config.rest = options.rest;
        let flaky = options.flaky.into();
        let mut cluster = Self {
            supers: Vec::new(),
            validators: Vec::new(),
            followers: Vec::new(),
            flaky,
            round_ms: options.round_ms,
            wires,
        };
        Box::pin(cluster.start_one(founder, options)).await?;
        Ok(cluster)
    }

    /// Starts the other supers and adds them to the group.
    pub async fn start_supers(&mut self, options: &Options) -> Result<(), Failure> {
        for number in 2..=options.supers {
            let mut member = Member::new(Role::Super, &format!("super-{number}"), options, &self.wires)?;
            member.config.rest = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            member.config.supers = self.supers.iter().map(Member::at).collect();
            let (name, key) = (member.name().to_owned(), member.key.id());
            let address = Box::pin(self.start_one(member, options)).await?;
            let failed = |why: String| Failure::new(format!("{name} cannot join: {why}"), "start the demo again");
            let group = self.group().ok_or_else(|| failed("no super runs".into()))?;
            // One that was there before, in a folder that was kept, is a member already.
            if !group.has_member(&key) {
                group.add(key, address).await.map_err(|error| failed(error.to_string()))?;
            }
            let joining = tokio::time::timeout(JOIN_WITHIN, async {
                // It has to catch up first.
                while let Err(error) = group.promote(key).await {
                    if matches!(&error, ChangeError::Refused { code, .. } if code == "already_member") {
                        break;
                    }
                    tracing::debug!(%error, "not a voter yet");
                    tokio::time::sleep(JOIN_AGAIN).await;
                }
            });
            joining.await.map_err(|_| failed(format!("it has not caught up within {} s", JOIN_WITHIN.as_secs())))?;
        }
        Ok(())
    }

    async fn start_one(&mut self, mut member: Member, options: &Options) -> Result<String, Failure> {
        member.config.public_addresses = true;
        member.config.policies = policies(options);
        let interval = options.round_ms.to_string();
        member
            .config
            .settings
            .set("round.interval_ms", &interval)
            .map_err(|error| Failure::usage(format!("--round-ms {interval}: {error}"), "1000 is the default"))?;
        member.config.settings_said.push(("round.interval_ms".into(), interval));
        member.start().await?;
        if let Some(node) = &member.node {
            // It comes back where it was, so that everybody finds it.
            member.config.rest = node.rest_address();
            member.config.grpc = node.grpc_address().unwrap_or(member.config.grpc);
        }
        let address = member.config.grpc.to_string();
        self.supers.push(member);
        Ok(address)
    }

    /// Starts the validators and adds them to the set.
    pub async fn start_validators(&mut self, options: &Options) -> Result<(), Failure> {
        for number in 1..=options.validators {
            let mut member = Member::new(Role::Validator, &format!("validator-{number}"), options, &self.wires)?;
            member.config.supers = self.supers.iter().map(Member::at).collect();
            member.config.rest = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            member.start().await?;
            if let Some(node) = &member.node {
                member.config.rest = node.rest_address();
                member.config.grpc = node.grpc_address().unwrap_or(member.config.grpc);
            }
            let (node, name, address) = (member.key.id(), member.name().to_owned(), member.config.grpc.to_string());
            self.validators.push(member);
            let validator = Validator { node, name: name.clone(), address, came: false };
            let group = self.group().ok_or_else(|| self.none_runs())?;
            let what = Operation::AddValidator(validator);
            let operate = Operate { by: Operator::Console, reason: String::new(), now_ms: group.now_ms(), what };
            let added = group.propose(Command::Operate(operate)).await;
            let failed =
                |why: String| Failure::new(format!("{name} cannot be a validator: {why}"), "start the demo again");
            match added {
                Ok(Ok(_)) => {}
                Ok(Err(reject)) => return Err(failed(Problem::from(reject).detail)),
                Err(error) => return Err(failed(error.to_string())),
            }
        }
        Ok(())
    }

    /// Where a follower that runs takes records in, another one each time; `None`: none does, or there are no validators.
    pub fn takes_records(&self, turn: usize) -> Option<(String, RecordsPart)> {
        if self.validators.is_empty() {
            return None;
        }
        let up: Vec<&Member> = self.followers.iter().filter(|member| member.node.is_some()).collect();
        let member = up.get(turn.checked_rem(up.len())?)?;
        Some((member.name().to_owned(), member.context.as_ref()?.records()?.clone()))
    }

    /// Starts the followers.
    pub async fn start_followers(&mut self, options: &Options) -> Result<(), Failure> {
        for number in 1..=options.followers {
            let mut member = Member::new(Role::Follower, &format!("follower-{number}"), options, &self.wires)?;
            member.config.supers = self.supers.iter().map(Member::at).collect();
            member.config.rest = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            self.followers.push(member);
        }
        for some in self.followers.chunks_mut(STARTING) {
            let mut starting = tokio::task::JoinSet::new();
            for (at, member) in some.iter().enumerate() {
                let parts = StartParts {
                    disk: member.disk.clone(),
                    records: member.records.clone(),
                    key: Some(member.key.clone()),
                    faults: Arc::clone(&member.faults),
                    wires: self.wires.clone(),
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

    /// Where the API is: the founder's, or that of the first super that runs.
    pub fn rest_url(&self) -> String {
        let up = self.supers.iter().find(|member| member.node.is_some()).or(self.supers.first());
        up.map_or_else(String::new, |member| format!("http://{}", member.config.rest))
    }

    /// What the demo is, in a line or two.
    pub fn greeting(&self) -> String {
        let id = self.read(|state| state.meta.cluster.to_string()).unwrap_or_default();
        let flaky = self.flaky();
        let flaky = if flaky.is_empty() { "none of them flaky".into() } else { format!("flaky: {}", flaky.join(", ")) };
        let supers = match self.supers.len() {
            1 => "1 super".to_owned(),
            count => format!("{count} supers"),
        };
        let validators = match self.validators.len() {
            0 => String::new(),
            count => format!(" {count} validators,"),
        };
        format!(
            "cluster {id}: {supers},{validators} {} followers ({flaky}), rounds of {} ms",
            self.followers.len(),
            self.round_ms
        )
    }

    /// Names of the followers that play the script: the last ones.
    pub fn flaky(&self) -> Vec<String> {
        let good = self.followers.len().saturating_sub(self.flaky);
        self.followers.iter().skip(good).map(|member| member.name().to_string()).collect()
    }

    /// The super that knows most: the one that leads, else the first that runs.
    fn best(&self) -> Option<&Member> {
        let runs = |member: &&Member| member.node.is_some();
        // One that was cut off may still think that it leads, in an older term.
        let leads = |member: &&Member| member.leadership().filter(|now| now.ready).map(|now| now.term);
        let leader = self.supers.iter().filter(|member| leads(member).is_some()).max_by_key(leads);
        leader.or_else(|| self.supers.iter().find(runs))
    }

    fn part(&self) -> Option<&SuperPart> {
        self.best().and_then(Member::part)
    }

    fn group(&self) -> Option<Group> {
        self.part().map(|part| part.group.clone())
    }

    /// Reads the cluster; `None` while no super runs.
    pub fn read<T>(&self, f: impl FnOnce(&State) -> T) -> Option<T> {
        self.part().map(|part| part.group.read(f))
    }

    /// What happens from now on, as the super tells it that knows most, and which one that is; `None` while none runs.
    pub fn notices(&self) -> Option<(NodeId, Receiver<Arc<Notice>>)> {
        let best = self.best()?;
        Some((best.key.id(), best.part()?.group.notices()))
    }

    /// Which super tells what happens.
    pub fn teller(&self) -> Option<NodeId> {
        self.best().map(|best| best.key.id())
    }

    /// Waits until a super fails by itself, and says which and why.
    pub async fn failed(&self) -> String {
        let failing = self.supers.iter().filter_map(|member| {
            let node = member.node.as_ref()?;
            Some(Box::pin(async move { format!("{}: {}", member.name(), node.failed().await) }))
        });
        let failing: Vec<_> = failing.collect();
        if failing.is_empty() {
            return std::future::pending().await;
        }
        futures_util::future::select_all(failing).await.0
    }

    fn at(&self, name: &str) -> Result<&Member, Failure> {
        let mut all = self.supers.iter().chain(&self.validators).chain(&self.followers);
        all.find(|member| member.name() == name).ok_or_else(|| self.nobody(name))
    }

    fn find(&mut self, name: &str) -> Result<&mut Member, Failure> {
        let failure = self.nobody(name);
        let mut all = self.supers.iter_mut().chain(&mut self.validators).chain(&mut self.followers);
        all.find(|member| member.name() == name).ok_or(failure)
    }

    fn nobody(&self, name: &str) -> Failure {
        let near = nearest(name, self.supers.iter().chain(&self.validators).chain(&self.followers).map(Member::name));
        let supers = self.supers.iter().chain(&self.validators).map(Member::name).collect::<Vec<_>>().join(", ");
        let all = format!("the nodes are {supers} and follower-1 to follower-{}", self.followers.len());
        let near = near.map(|near| format!("did you mean `{near}`?"));
        Failure::new(format!("there is no node `{name}`"), near.unwrap_or(all))
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
        let member = self.at(name)?;
        if member.config.role != Role::Follower {
            return Err(Failure::new(format!("a {} earns nothing", member.config.role), "name a follower"));
        }
        let key = member.key.clone();
        let earned = self.read(|state| state.members.get(&key.id()).map_or(0, |member| member.hot.earned.0));
        let Some(earned) = earned else { return Err(self.none_runs()) };
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
        let role = member.config.role;
        node.kill().await;
        if role == Role::Validator {
            return Ok(self.killed_validator(name));
        }
        if role != Role::Super {
            return Ok(format!(
                "killed {name}, as with kill -9: it misses its turns and is warned, suspended, then banned; `restart {name}` starts it again"
            ));
        }
        let (up, all) = (self.supers.iter().filter(|member| member.node.is_some()).count(), self.supers.len());
        let after = format!("`restart {name}`");
        Ok(if up > all / 2 {
            format!(
                "killed {name}, as with kill -9: {up} of {all} supers go on, and nobody is struck for it; {after} starts it again"
            )
        } else {
            format!(
                "killed {name}, as with kill -9: {up} of {all} supers are no majority, so no rounds until {after}; after it nobody is struck for the gap"
            )
        })
    }

    fn killed_validator(&self, name: &str) -> String {
        let up = self.validators.iter().filter(|member| member.node.is_some()).count();
        let quorum = self.read(State::quorum).unwrap_or_default();
        let (all, again) = (self.validators.len(), format!("`restart {name}` starts it again"));
        if up >= quorum {
            format!(
                "killed {name}, as with kill -9: {up} of {all} validators go on signing, {quorum} are enough; {again}"
            )
        } else {
            format!(
                "killed {name}, as with kill -9: {up} of {all} validators are fewer than the {quorum} that seal a batch: records wait; {again}"
            )
        }
    }

    /// Starts a node again, as after a kill.
    pub async fn restart(&mut self, name: &str) -> Result<String, Failure> {
        let member = self.find(name)?;
        if let Some(node) = member.node.take() {
            member.context = None;
            node.kill().await;
        }
        member.faults.change(|faults| faults.offline = false);
        let (id, is_super) = (member.key.id(), member.config.role == Role::Super);
        let is_validator = member.config.role == Role::Validator;
        member.start().await?;
        if is_validator {
            return Ok(format!("restarted {name}: it fetches what was sealed without it, and signs from now on"));
        }
        if is_super {
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
        let Some(part) = self.part() else { return Err(self.none_runs()) };
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
        let Some(part) = self.part() else { return Err(self.none_runs()) };
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

    fn none_runs(&self) -> Failure {
        let first = self.supers.first().map_or(FOUNDER, Member::name);
        Failure::new("no super runs", format!("`restart {first}` first"))
    }

    /// Makes all that a node sends and gets late.
    pub fn lag(&self, name: &str, late: Duration) -> Result<String, Failure> {
        let node = self.at(name)?.key.id();
        self.wires.lag(node, late);
        let ms = late.as_millis();
        Ok(match ms {
            0 => format!("{name} is as fast as the others again"),
            _ => format!("all that {name} sends and gets is {ms} ms late, until `lag {name} 0ms` or `heal`"),
        })
    }

    /// Cuts the network between sides; whoever is named on none reaches all of them. One side alone is cut off from everybody.
    pub fn partition(&self, islands: &[Vec<String>]) -> Result<String, Failure> {
        let mut seen = BTreeSet::new();
        let mut cut = Vec::new();
        for island in islands {
            let mut nodes = BTreeSet::new();
            for name in island {
                let node = self.at(name)?.key.id();
                if !seen.insert(node) {
                    return Err(Failure::new(format!("`{name}` is named twice"), "a node is on one side of a cut"));
                }
                nodes.insert(node);
            }
            cut.push(nodes);
        }
        let supers = self.supers.len();
        let on = |nodes: &BTreeSet<NodeId>| self.supers.iter().filter(|m| nodes.contains(&m.key.id())).count();
        let named: usize = cut.iter().map(on).sum();
        // Who is on no side reaches every side.
        let rest = supers - named;
        let sides = cut.iter().map(on).map(|count| if cut.len() > 1 { count + rest } else { count });
        let most = sides.chain((cut.len() == 1).then_some(rest)).max().unwrap_or(0);
        self.wires.partition(cut);
        let sides = islands.iter().map(|island| island.join(", ")).collect::<Vec<_>>().join(" | ");
        let outcome = if most > supers / 2 {
            "the side with most of the supers goes on"
        } else {
            "no side has most of the supers, so no round is settled"
        };
        let what = if islands.len() == 1 {
            format!("{sides} is cut off from all others")
        } else {
            format!("cut between {sides}")
        };
        Ok(format!("{what}: {outcome}, until `heal`"))
    }

    /// The network is whole again.
    pub fn heal(&self) -> String {
        let was = self.wires.heal();
        if was { "the network is whole again".into() } else { "nothing was wrong with the network".into() }
    }

    /// What the table shows above its rows: the cluster, and each super where there are several.
    pub fn headline(&self) -> Vec<String> {
        let url = self.rest_url();
        let state = self.read(|state| {
            let suspect = if state.meta.suspect_rounds > 0 { ", suspect: nobody is struck" } else { "" };
            (state.meta.settled, state.meta.treasury.0, suspect)
        });
        let up = self.followers.iter().filter(|member| member.node.is_some()).count();
        let teller = self.best().map_or(FOUNDER, Member::name);
        let mut lines = vec![match state {
            Some((settled, treasury, suspect)) => format!(
                "{teller} {url}   round {settled} settled{suspect}   {up} of {} followers running   {} points issued",
                self.followers.len(),
                0_i64.saturating_sub(treasury)
            ),
            None => {
                format!("no super runs: `restart {FOUNDER}`   {up} of {} followers running", self.followers.len())
            }
        }];
        if self.supers.len() > 1 {
            let members = self.group().and_then(|group| group.members().ok()).unwrap_or_default();
            let leader = self.best().map(|best| best.key.id());
            lines.extend(self.supers.iter().map(|member| super_line(member, &members, leader)));
        }
        lines.extend(self.records_line());
        if let Some(part) = self.part() {
            lines.extend(Slot::ALL.into_iter().flat_map(|slot| rule_lines(part, slot)));
        }
        lines
    }

    /// How users' records are doing; `None` without validators.
    fn records_line(&self) -> Option<String> {
        if self.validators.is_empty() {
            return None;
        }
        let up = self.validators.iter().filter(|member| member.node.is_some()).count();
        self.read(|state| {
            let counters = &state.meta.records;
            let (quorum, waiting) = (state.quorum(), state.known.pending.len());
            let refused = if counters.refused > 0 { format!(", {} refused", counters.refused) } else { String::new() };
            let waiting = if waiting > 0 { format!(", {waiting} batches wait") } else { String::new() };
            format!(
                "records: {} signed{refused}{waiting}   {up} of {} validators running, {quorum} signatures seal a batch",
                counters.signed,
                self.validators.len()
            )
        })
    }

    /// A row for each follower.
    pub fn rows(&self) -> Vec<Row> {
        let all = self.read(|state| self.followers.iter().map(|member| row(member, Some(state))).collect());
        all.unwrap_or_else(|| self.followers.iter().map(|member| row(member, None)).collect())
    }

    /// Ends everything. The supers first, one after the other: what the others do when they lose them is nobody's fault.
    ///
    /// # Errors
    /// What a super could not finish.
    pub async fn stop(self) -> Result<(), Failure> {
        self.wires.heal();
        let mut stopped = Ok(());
        for member in self.supers {
            if let Some(node) = member.node {
                stopped = stopped.and(node.stop().await);
            }
        }
        for member in self.followers.into_iter().chain(self.validators) {
            if let Some(node) = member.node {
                node.kill().await;
            }
        }
        Ok(stopped?)
    }
}

/// A super in one line: what it is in the group, how far behind, and who is attached to it.
/// What is to come for a slot, and what runs beside its rule.
fn rule_lines(part: &SuperPart, slot: Slot) -> Vec<String> {
    let name = |state: &State, policy: Option<Digest>| {
        let row = policy.and_then(|policy| state.policies.get(&policy));
        row.map_or_else(|| "none".into(), |row| format!("{} {}", row.description.name, row.description.version))
    };
    let (scheduled, shadow) = part.group.read(|state| {
        let row = &state.slot(slot).row;
        let scheduled = row.scheduled.map(|next| (name(state, next.policy), next.round));
        (scheduled, row.shadow.map(|shadow| name(state, Some(shadow.policy))))
    });
    let mut lines = Vec::new();
    if let Some((next, round)) = scheduled {
        lines.push(format!("the {slot} rule changes with round {round}: {next}"));
    }
    if let (Some(shadow), Some(seen)) = (shadow, part.shadows.seen(slot)) {
        lines.push(format!(
            "beside the {slot} rule: {shadow}, {} rounds, {} members otherwise",
            seen.tally.rounds, seen.tally.members_otherwise
        ));
    }
    lines
}

fn super_line(member: &Member, members: &[raft::Member], leader: Option<NodeId>) -> String {
    let name = member.name();
    let Some(part) = member.part() else { return format!("{name:<12} killed: `restart {name}`") };
    let id = member.key.id();
    let row = members.iter().rfind(|row| row.key == id);
    let leads = member.leadership().is_some_and(|now| now.ready);
    let role = match row {
        _ if leads && leader == Some(id) => "leader",
        // It does not know better: it is cut off.
        _ if leads => "deposed",
        Some(row) if row.voter => "voter",
        Some(_) => "learner",
        None => "no member",
    };
    let settled = part.group.read(|state| state.meta.settled);
    let lag = row.and_then(|row| row.lag).map_or_else(String::new, |lag| format!("   lag {lag}"));
    let silent = if row.is_some_and(|row| row.reachable == Some(false)) { "   out of reach" } else { "" };
    format!("{name:<12} {role:<8} round {settled}   {} attached{lag}{silent}", part.streams.count())
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
        (Slot::Reward | Slot::Ban | Slot::Signing, Some(found)) => found.config,
        (Slot::Reward | Slot::Ban | Slot::Signing, None) => "{}",
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
