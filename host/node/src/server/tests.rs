//! Whole nodes in one process: real streams over loopback, real policies, disks in memory.

use std::sync::Arc;

use kernel::command::{Amount, Claim, Command};
use kernel::decide::Slot;
use kernel::id::{Digest, NodeId, RoundId};
use kernel::outcome::{Notice, Reply};
use kernel::settings::Settings;
use kernel::standing::Standing;
use kernel::state::State;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::config::{Component, PeerAddress, Place, Problem};
use crate::group::{Disks, Group};
use crate::prepare::Scheduled;

mod records;
mod rules;
mod several;

/// A hang is a failure; nothing else depends on it.
const HANG: Duration = Duration::from_secs(120);

/// One super's disk and key, and room for its followers.
struct Lab {
    dir: TempDir,
    disk: Disks,
    settings: Settings,
}

impl Lab {
    fn new() -> Self {
        let settings = Settings { interval_ms: 500, ping_timeout_ms: 250, ..Settings::default() };
        Self { dir: tempfile::tempdir().unwrap(), disk: Disks::memory(), settings }
    }

    fn config(&self) -> Config {
        let settings = self.settings.clone();
        let said = ["round.interval_ms", "round.ping_timeout_ms"];
        let settings_said = said.iter().map(|key| ((*key).to_owned(), settings.value(key).unwrap())).collect();
        Config { settings, settings_said, ..Config::in_memory(Role::Super, "super-1", self.dir.path()) }
    }

    async fn start(&self) -> Node {
        self.start_with(self.config()).await.unwrap()
    }

    async fn start_with(&self, config: Config) -> anyhow::Result<Node> {
        let parts = StartParts {
            disk: Some(self.disk.clone()),
            key: Some(NodeKey::from_seed(&[1; 32])),
            ..StartParts::default()
        };
        Node::start(config, parts).await
    }

    async fn follower(&self, number: u8, of: &Node) -> Node {
        let at = of.grpc_address().unwrap();
        let to = PeerAddress { key: Some(of.context().node), host: at.ip().to_string(), port: at.port() };
        let name = format!("follower-{number}");
        let dir = self.dir.path().join(&name);
        let config = Config { supers: vec![to], ..Config::in_memory(Role::Follower, &name, &dir) };
        let key = Some(NodeKey::from_seed(&[100 + number; 32]));
        Node::start(config, StartParts { key, ..StartParts::default() }).await.unwrap()
    }

    async fn followers(&self, count: u8, of: &Node) -> Vec<Node> {
        let mut all = Vec::new();
        for number in 0..count {
            all.push(self.follower(number, of).await);
        }
        all
    }
}

fn group(node: &Node) -> Group {
    node.context().as_super().unwrap().group.clone()
}

/// Waits for a state in which something holds.
async fn until<T>(node: &Node, what: &str, look: impl Fn(&State) -> Option<T>) -> T {
    let group = group(node);
    let mut applied = group.applied();
    let found = timeout(HANG, async {
        loop {
            applied.borrow_and_update();
            if let Some(found) = group.read(&look) {
                return found;
            }
            tokio::select! {
                changed = applied.changed() => changed.unwrap(),
                why = node.failed() => panic!("waiting for {what}, and the node failed: {why}"),
            }
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("never: {what}; {:?}", group.read(|s| (s.meta.settled, s.queue.len(), s.meta.suspect))),
    }
}

fn earned(state: &State, node: NodeId) -> i64 {
    state.members.get(&node).map_or(0, |member| member.hot.earned.0)
}

async fn all_earn(super_1: &Node, followers: &[Node], more_than: i64) {
    let nodes: Vec<NodeId> = followers.iter().map(|node| node.context().node).collect();
    until(super_1, "all earn", |state| nodes.iter().all(|node| earned(state, *node) > more_than).then_some(())).await;
}

fn nobody_is_struck(state: &State) {
    for (node, member) in &state.members {
        assert_eq!((member.hot.standing, member.hot.strikes), (Standing::Good, 0), "{node:?}");
    }
    assert_eq!(state.sum(), 0, "the books close");
}

async fn end(nodes: Vec<Node>) {
    for node in nodes {
        node.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_attach_and_are_paid_by_rules_that_decide_from_the_first_round_on() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let followers = lab.followers(3, &super_1).await;
    all_earn(&super_1, &followers, 0).await;
    let context = super_1.context();
    let part = context.as_super().unwrap();
    let first = part.store.round(RoundId(1)).unwrap().unwrap();
    assert!(first.slots.iter().all(|slot| slot.policy.is_some()), "no round with an empty slot");
    group(&super_1).read(nobody_is_struck);
    assert_eq!(part.streams.count(), 3);
    let settled = group(&super_1).read(|state| state.meta.settled);
    let mut order = part.order.clone();
    let order = timeout(HANG, order.wait_for(|order| order.round > settled)).await.unwrap().unwrap().clone();
    assert_eq!(order.nodes.len(), 3, "the order of a settled round is public");
    for follower in &followers {
        let mut own = follower.context().as_follower().unwrap().own.clone();
        let own = timeout(HANG, own.wait_for(|view| view.own.is_some())).await.unwrap().unwrap().clone();
        assert!(own.own.unwrap().told.earned.0 >= 0 && own.cluster.is_some());
    }
    end(followers).await;
    until(&super_1, "all said goodbye", |state| state.queue.is_empty().then_some(())).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_super_comes_back_with_all_balances_and_strikes_nobody() {
    let lab = Lab::new();
    let mut config = lab.config();
    let super_1 = lab.start_with(config.clone()).await.unwrap();
    // Followers come back to the same address.
    config.grpc = super_1.grpc_address().unwrap();
    let followers = lab.followers(3, &super_1).await;
    all_earn(&super_1, &followers, 0).await;
    let (cluster, before, balances) = group(&super_1).read(|state| {
        let earned: Vec<_> = state.members.iter().map(|(node, member)| (*node, member.hot.earned)).collect();
        (state.meta.cluster.clone(), state.meta.settled, earned)
    });
    super_1.kill().await;

    let super_1 = lab.start_with(config).await.unwrap();
    group(&super_1).read(|state| {
        assert_eq!(state.meta.cluster, cluster, "the same life");
        assert!(state.meta.settled >= before);
        for (node, earned) in &balances {
            assert!(state.members[node].hot.earned >= *earned);
        }
    });
    let settled = group(&super_1).read(|state| state.meta.settled);
    let context = super_1.context();
    until(&super_1, "four rounds after the start", |state| {
        nobody_is_struck(state);
        (state.meta.settled >= settled.plus(4)).then_some(())
    })
    .await;
    let again = context.as_super().unwrap().store.round(settled.next()).unwrap().unwrap();
    assert!(again.marks.is_suspect(), "the round that was open is opened again, and doubted");
    all_earn(&super_1, &followers, balances.iter().map(|(_, earned)| earned.0).max().unwrap()).await;
    end(followers).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_a_burst_of_claims_loses_nothing_that_was_answered() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let followers = lab.followers(2, &super_1).await;
    all_earn(&super_1, &followers, 5).await;
    let node = followers[0].context().node;
    let mut burst = JoinSet::new();
    let claims = group(&super_1);
    for sequence in 1..=400_u64 {
        let group = claims.clone();
        burst.spawn(async move {
            let now_ms = group.now_ms();
            let digest = Digest::of(&sequence.to_le_bytes());
            let expires_ms = now_ms + 60_000;
            let amount = Amount::Exactly(1);
            let claim = Claim { node, sequence, expires_ms, amount, to: node, digest, now_ms };
            (sequence, digest, group.propose(Command::Claim(claim)).await)
        });
    }
    let (mut last_paid, mut answered) = (0, 0);
    let mut super_1 = Some(super_1);
    while let Some(done) = burst.join_next().await {
        let (sequence, _, reply) = done.unwrap();
        if let Ok(reply) = reply {
            answered += 1;
            if let Ok(Reply::Claimed(claimed)) = reply {
                assert_eq!(claimed.paid.0, 1);
                last_paid = last_paid.max(sequence);
            }
            if answered == 100 {
                super_1.take().unwrap().kill().await;
            }
        }
    }
    assert!(answered >= 100 && last_paid > 0);
    let super_1 = lab.start().await;
    group(&super_1).read(|state| {
        let member = &state.members[&node];
        let last = member.profile.claim.as_ref().unwrap();
        assert!(last.sequence >= last_paid, "{} {last_paid}", last.sequence);
        assert_eq!(state.wallets[&node].balance, member.hot.claimed, "each point once");
        assert_eq!(state.sum(), 0);
    });
    end(followers).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_counts_from_a_round_boundary_and_no_stream_drops() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let followers = lab.followers(3, &super_1).await;
    all_earn(&super_1, &followers, 0).await;
    let context = super_1.context();
    let part = context.as_super().unwrap();
    let since: Vec<u64> = part.streams.read(|all| all.values().map(|stream| stream.since_ms).collect());
    let before = group(&super_1).read(|state| state.active(Slot::Reward).unwrap().0);

    let mut config = lab.config();
    let source = PolicySource {
        component: Component::Builtin("reward-flat".into()),
        config: r#"{"points_per_round":25}"#.into(),
    };
    config.policies.insert(Slot::Reward, source);
    let reload = super_1.reload(&config).await.unwrap();
    let (_, outcome) = reload.slots.iter().find(|(slot, _)| *slot == Slot::Reward).unwrap();
    let Outcome::Scheduled(Scheduled { policy, from, .. }) = outcome else { panic!("{outcome:?}") };
    assert_ne!(*policy, before);
    until(&super_1, "the round after the boundary", |state| (state.meta.settled > *from).then_some(())).await;

    let decided = |round: RoundId| {
        let record = part.store.round(round).unwrap().unwrap();
        record.slots.iter().find(|slot| slot.slot == Slot::Reward).unwrap().policy.unwrap()
    };
    assert_eq!((decided(RoundId(from.0 - 1)), decided(*from)), (before, *policy));
    assert_eq!(part.streams.read(|all| all.values().map(|s| s.since_ms).collect::<Vec<_>>()), since);
    group(&super_1).read(nobody_is_struck);

    // The same file again says nothing new; and once the cluster has decided otherwise, the log wins.
    let again = super_1.reload(&config).await.unwrap();
    assert!(again.slots.iter().all(|(_, outcome)| matches!(outcome, Outcome::Unchanged { .. })), "{again:?}");
    let back = lab.config().policies[&Slot::Reward].clone();
    assert!(matches!(super_1.swap(Slot::Reward, &back).await.unwrap().unwrap(), Outcome::Scheduled(_)));
    until(&super_1, "the swap back", |state| (state.active(Slot::Reward)?.0 == before).then_some(())).await;
    let again = super_1.reload(&config).await.unwrap();
    let (_, outcome) = again.slots.iter().find(|(slot, _)| *slot == Slot::Reward).unwrap();
    assert!(matches!(outcome, Outcome::LogWins { active: Some(active), .. } if *active == before), "{outcome:?}");
    end(followers).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_three_times_gives_way_by_itself() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let followers = lab.followers(2, &super_1).await;
    all_earn(&super_1, &followers, 0).await;
    let before = group(&super_1).read(|state| state.active(Slot::Reward).unwrap().0);
    // More points than a round may issue: a fault each time.
    let source = PolicySource {
        component: Component::Builtin("reward-flat".into()),
        config: r#"{"points_per_round":1000000}"#.into(),
    };
    let outcome = super_1.swap(Slot::Reward, &source).await.unwrap().unwrap();
    let Outcome::Scheduled(Scheduled { policy, from, .. }) = outcome else { panic!("{outcome:?}") };
    until(&super_1, "the return", |state| {
        (state.meta.settled >= from && state.active(Slot::Reward)?.0 == before).then_some(())
    })
    .await;
    let context = super_1.context();
    let store = &context.as_super().unwrap().store;
    let settled = group(&super_1).read(|state| state.meta.settled);
    let failed: Vec<RoundId> = (from.0..=settled.0)
        .map(RoundId)
        .filter(|round| {
            let record = store.round(*round).unwrap().unwrap();
            record.slots.iter().any(|slot| slot.policy == Some(policy) && slot.fault.is_some())
        })
        .collect();
    assert!(failed.len() >= 3, "{failed:?}");
    let earned_then = group(&super_1).read(|state| earned(state, followers[0].context().node));
    all_earn(&super_1, &followers, earned_then).await;
    group(&super_1).read(nobody_is_struck);
    end(followers).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_the_whole_process_strikes_nobody() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let followers = lab.followers(3, &super_1).await;
    all_earn(&super_1, &followers, 0).await;
    let before = group(&super_1).read(|state| state.meta.settled);
    // Every worker stands still for two rounds and more, as after SIGSTOP.
    let pause = Duration::from_millis(lab.settings.interval_ms * 5 / 2);
    let stopped: Vec<_> = (0..2).map(|_| tokio::spawn(async move { std::thread::sleep(pause) })).collect();
    for worker in stopped {
        worker.await.unwrap();
    }
    until(&super_1, "rounds after the pause", |state| {
        nobody_is_struck(state);
        (state.meta.settled >= before.plus(5)).then_some(())
    })
    .await;
    end(followers).await;
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_component_leaves_the_rule_that_decides_and_says_what_is_wrong() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let before = until(&super_1, "a round", |state| Some(state.active(Slot::Ban)?.0)).await;
    let file = lab.dir.path().join("bad.wasm");
    std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    let missing = lab.dir.path().join("missing.wasm");
    for component in [Component::File(file), Component::File(missing), Component::Builtin("nope".into())] {
        let source = PolicySource { component: component.clone(), config: "{}".into() };
        let outcome = super_1.swap(Slot::Ban, &source).await.unwrap().unwrap();
        let Outcome::Refused { findings, .. } = outcome else { panic!("{component}: {outcome:?}") };
        assert!(!findings.is_empty() && findings.iter().all(|finding| !finding.is_empty()));
    }
    let row = group(&super_1).read(|state| state.slot(Slot::Ban).row.clone());
    assert_eq!((row.active, row.scheduled), (Some(before), None));
    super_1.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founder_whose_rules_are_refused_or_that_is_not_alone_does_not_begin() {
    let lab = Lab::new();
    let mut config = lab.config();
    let missing = Component::File(lab.dir.path().join("missing.wasm"));
    config.policies.insert(Slot::Ban, PolicySource { component: missing, config: "{}".into() });
    let error = lab.start_with(config).await.err().unwrap().to_string();
    assert!(error.contains("the ban policy") && error.contains("cannot be read"), "{error}");

    let lab = Lab::new();
    let mut config = lab.config();
    config.supers = vec![PeerAddress { key: None, host: "127.0.0.1".into(), port: 1 }];
    let waiting = lab.start_with(config).await.unwrap();
    assert!(!group(&waiting).read(State::is_founded), "it waits, and founds nothing");
    waiting.stop().await.unwrap();

    let lab = Lab::new();
    let missing = Component::File(lab.dir.path().join("missing.wasm"));
    let problem = Problem { place: Place::File("node.toml".into()), what: "there is no file".into(), hint: "x".into() };
    let mut config = Config { missing: vec![problem], ..lab.config() };
    config.policies.insert(Slot::Ban, PolicySource { component: missing, config: "{}".into() });
    let error = lab.start_with(config.clone()).await.err().unwrap().to_string();
    assert!(error.contains("there is no file"), "{error}");
    assert!(!lab.disk.open(1 << 20).unwrap().load().unwrap().is_founded(), "nothing was founded");

    // Once there is a cluster its rules are in the log, and a file that has gone is no obstacle.
    lab.start().await.stop().await.unwrap();
    let again = lab.start_with(config).await.unwrap();
    assert!(group(&again).read(|state| state.active(Slot::Ban).is_some()));
    again.stop().await.unwrap();
}

#[tokio::test]
async fn an_address_of_another_machine_is_not_ours_although_we_listen_on_all_of_our_own() {
    let node = NodeKey::from_seed(&[1; 32]).id();
    let all: SocketAddr = "0.0.0.0:7001".parse().unwrap();
    // 192.0.2.0/24 is for documentation: no machine has it.
    for (text, ours) in [
        ("127.0.0.1:7001", true),
        ("localhost:7001", true),
        ("127.0.0.1:7002", false),
        ("192.0.2.9:7001", false),
        ("no-such-host.invalid:7001", false),
    ] {
        let (host, port) = text.split_once(':').unwrap();
        let mut address = PeerAddress { key: None, host: host.into(), port: port.parse().unwrap() };
        assert_eq!(supernode::is_ours(&address, node, all).await, ours, "{text}");
        address.key = Some(node);
        assert!(supernode::is_ours(&address, node, all).await, "{text} with our key");
        address.key = Some(NodeKey::from_seed(&[2; 32]).id());
        assert!(!supernode::is_ours(&address, node, all).await, "{text} with another's key");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_with_a_failure_or_a_task_that_does_not_end_is_an_error_with_its_reason() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    super_1.tasks.fail("a commit failed".into());
    let error = super_1.stop().await.unwrap_err().to_string();
    assert!(error.contains("a commit failed"), "{error}");

    let super_1 = Lab::new().start().await;
    super_1.tasks.spawn("stuck", endless(std::future::pending()));
    let error = super_1.stop_within(Duration::from_millis(200)).await.unwrap_err().to_string();
    assert!(error.contains("not everything ended"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_become_events_and_counters() {
    let lab = Lab::new();
    let super_1 = lab.start().await;
    let context = super_1.context();
    let mut notices = group(&super_1).notices();
    let mut live = context.events.subscribe(None).unwrap().live;
    timeout(HANG, async {
        while !matches!(*notices.recv().await.unwrap(), Notice::Round(_)) {}
        while live.recv().await.unwrap().kind != crate::events::Kind::Round {}
    })
    .await
    .unwrap();
    assert!(context.metrics.rounds.get() > 0);
    let metrics: Arc<Metrics> = Arc::clone(&context.metrics);
    super_1.stop().await.unwrap();
    assert_eq!(metrics.streams.get(), 0);
}
