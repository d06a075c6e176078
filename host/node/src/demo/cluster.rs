//! The nodes of the demo: started, killed, started again, made to misbehave.

mod fault;
mod member;
mod show;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::command::{Amount, Command, Operate, Operation, Operator};
use kernel::decide::Slot;
use kernel::id::NodeId;
use kernel::outcome::{Notice, Reply};
use kernel::records::validators::Validator;
use kernel::state::State;
use raft::ChangeError;
use tokio::sync::broadcast::Receiver;

use super::Options;
use crate::builtin;
use crate::client::{Api, claim};
use crate::config::{Component, PolicySource, Role, json, nearest};
use crate::context::{RecordsPart, SuperPart};
use crate::failure::Failure;
use crate::group::Group;
use crate::prepare::{Outcome, memory_words};
use crate::rest::problem::Problem;
use crate::server::{Node, StartParts};
use crate::wires::Wires;

use member::Member;

/// The one that founds.
const FOUNDER: &str = "super-1";
/// Until a super that is added has its state and votes.
const JOIN_WITHIN: Duration = Duration::from_secs(60);
/// Between two attempts to make it a voter.
const JOIN_AGAIN: Duration = Duration::from_millis(100);
/// The longest lag that the console gives: past it nothing would be left of a round.
pub const LAG_AT_MOST: Duration = Duration::from_secs(60);
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
