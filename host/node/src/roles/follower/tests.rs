//! A real follower against a super that is only its mailbox.

use kernel::decide::Slot;
use kernel::id::{Digest, Genesis, LogIndex, RoundId};
use kernel::outcome::Told;
use kernel::round::Presence;
use kernel::standing::Standing;
use kernel::units::Points;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wire::message::{
    FromFollower, Policies, PolicyName, Role, ScheduledKind, ScheduledPolicy, SlotPolicies, ToFollower, Welcome,
};
use wire::version;

use super::*;
use crate::grpc::testing::{Stub, patient, ping, welcome};
use crate::listen::Limits;
use crate::mail::Mail;

struct Running {
    id: NodeId,
    faults: Arc<FollowerFaults>,
    view: watch::Receiver<FollowerView>,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), FollowerError>>,
}

fn settings(seed: u8, to: PeerAddress) -> Settings {
    Settings {
        key: NodeKey::from_seed(&[seed; 32]),
        known: Known::in_memory(),
        cluster: "lab".into(),
        name: "f-1".into(),
        supers: vec![to],
        connect_port: 0,
        connect_from: None,
        address: "here:1".into(),
        rest: Some("127.0.0.1:8081".into()),
        once: false,
        wires: Wires::default(),
        events: Events::new(1),
        faults: Arc::default(),
    }
}

fn start(settings: Settings) -> Running {
    let (id, faults) = (settings.key.id(), Arc::clone(&settings.faults));
    let (sender, view) = watch::channel(FollowerView::default());
    let stop = CancellationToken::new();
    let ended = tokio::spawn(run(settings, sender, stop.clone()));
    Running { id, faults, view, stop, ended }
}

impl Running {
    /// Waits until the view is so.
    async fn shows(&mut self, so: impl FnMut(&FollowerView) -> bool) -> FollowerView {
        patient(self.view.wait_for(so)).await.unwrap().clone()
    }
}

fn own(round: u64, standing: Standing, until: Option<u64>) -> Own {
    let told = Told {
        node: NodeId([0; 32]),
        round: RoundId(round),
        presence: Presence::Up,
        standing,
        reason: "missed 3 in a row".into(),
        earned: Points(10),
        wallet: Points(0),
        until: until.map(RoundId),
    };
    Own { told, until_ms: None, warning: None }
}

async fn stub() -> Stub {
    Stub::start(1, Limits::GRPC).await
}

#[tokio::test]
async fn a_follower_attaches_answers_and_says_goodbye() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(Some(stub.key.id()))));
    let attach = stub.hello().await;
    let hello = attach.hello;
    assert_eq!((attach.node, hello.port), (follower.id, attach.source_port), "it comes from the port that it declares");
    assert_eq!((hello.cluster.as_str(), hello.role, hello.version), ("lab", Role::Follower, version::OURS));
    attach.answer.send(Ok(welcome())).unwrap();

    attach.out.send(ToFollower::Ping(ping(41))).unwrap();
    let FromFollower::Pong(pong) = stub.message().await else { panic!("no pong") };
    assert_eq!((pong.round, pong.term, pong.nonce), (ping(41).round, ping(41).term, 41));
    assert_eq!((pong.version, pong.address.as_str()), (version::OURS, "here:1"));
    attach.out.send(ToFollower::Own(own(7, Standing::Good, None))).unwrap();
    let view = follower.shows(|view| view.own.is_some()).await;
    assert!(view.is_attached() && view.cluster == Some(welcome().cluster) && view.refused.is_none());
    assert_eq!(view.own.unwrap().told.node, follower.id);

    follower.stop.cancel();
    assert_eq!(stub.message().await, FromFollower::Goodbye);
    assert_eq!(stub.detached().await, attach.stream);
    patient(follower.ended).await.unwrap().unwrap();
    drop(attach.out);
    stub.ends_quietly().await;
}

#[tokio::test]
async fn a_super_with_another_key_than_the_pinned_one_is_refused() {
    let stub = stub().await;
    let other = NodeKey::from_seed(&[9; 32]).id();
    let follower = start(Settings { once: true, ..settings(2, stub.peer(Some(other))) });
    let error = patient(follower.ended).await.unwrap().unwrap_err().to_string();
    assert!(error.contains(&stub.key.id().to_string()) && error.contains("change cluster.supers"), "{error}");
    stub.ends_quietly().await;
}

#[tokio::test]
async fn the_first_key_seen_at_an_address_is_kept() {
    let mut first = stub().await;
    let dir = tempfile::tempdir().unwrap();
    let peer = first.peer(None);
    let with_memory = || Settings { known: Known::open(dir.path()).unwrap(), ..settings(2, peer.clone()) };
    let mut follower = start(with_memory());
    let attached = first.welcome().await;
    let view = follower.shows(FollowerView::is_attached).await;
    assert_eq!(view.supers[0].key, Some(first.key.id()));
    follower.stop.cancel();
    first.message().await;
    first.detached().await;
    patient(follower.ended).await.unwrap().unwrap();
    drop(attached);
    let address = first.address;
    first.ends_quietly().await;

    // Another super at the same address, after a restart of the follower.
    let second = Stub::on(TcpListener::bind(address).await.unwrap(), 5, Limits::GRPC);
    let mut follower = start(with_memory());
    let view = follower.shows(|view| view.failed.is_some()).await;
    let why = view.failed.unwrap();
    assert!(why.contains("was seen there before") && why.contains("known.json"), "{why}");
    second.ends_quietly().await;
}

#[tokio::test]
async fn another_life_of_the_cluster_is_refused_by_the_follower_too() {
    let mut stub = stub().await;
    let settings = Settings { once: true, ..settings(2, stub.peer(None)) };
    let other = ClusterId { id: "lab".into(), genesis: Genesis([8; 16]) };
    settings.known.learn_cluster(&other).unwrap();
    let follower = start(settings);
    let attach = stub.hello().await;
    assert_eq!(attach.hello.cluster, other.to_string());
    attach.answer.send(Ok(welcome())).unwrap();
    stub.detached().await;
    let error = patient(follower.ended).await.unwrap().unwrap_err().to_string();
    assert!(error.contains(&other.to_string()) && error.contains("founded anew on purpose"), "{error}");
}

#[tokio::test]
async fn with_once_every_refusal_ends_it_and_says_what_to_do() {
    let mut stub = stub().await;
    for refusal in [
        Refusal::WrongCluster { ours: welcome().cluster.to_string() },
        Refusal::Outdated { accept: ">=0.2".into() },
        Refusal::Banned { until: RoundId(7), until_ms: 1_000, reason: "missed 4 in a row".into() },
        Refusal::PortMismatch { declared: 1, seen: 2 },
        Refusal::PortTaken,
        Refusal::Busy { retry_ms: 1 },
        Refusal::Full { what: "the queue: 20000 members".into(), retry_ms: 1 },
        Refusal::SlowDown { retry_ms: 1 },
        Refusal::WrongRole,
        Refusal::Malformed { what: "the name".into() },
    ] {
        let follower = start(Settings { once: true, ..settings(2, stub.peer(None)) });
        stub.refuse(refusal.clone()).await;
        let ended = patient(follower.ended).await.unwrap();
        let Err(FollowerError::Refused { code, cure, .. }) = ended else { panic!("{ended:?}") };
        assert!(code == refusal.code() && !cure.is_empty());
    }
}

#[tokio::test]
async fn a_banned_follower_says_so_waits_and_asks_to_return() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(None)));
    let attached = stub.welcome().await;
    follower.shows(FollowerView::is_attached).await;
    let until_ms = now_ms() + 300;
    attached.out.refuse(Refusal::Banned { until: RoundId(9), until_ms, reason: "missed 4 in a row".into() });
    assert_eq!(stub.detached().await, attached.stream);
    let view = follower.shows(|view| view.refused.is_some()).await;
    assert!(!view.is_attached());
    let refused = view.refused.unwrap();
    assert!(refused.retry_ms >= until_ms && refused.words.what.contains("banned through round 9"));

    let back = stub.hello().await;
    assert!(now_ms() >= until_ms, "it does not ask before its ban is over");
    back.answer.send(Ok(welcome())).unwrap();
    assert_eq!(stub.message().await, FromFollower::Return);
    assert!(follower.shows(FollowerView::is_attached).await.refused.is_none());
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_and_names_the_life_of_the_cluster() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(None)));
    let attached = stub.welcome().await;
    follower.shows(FollowerView::is_attached).await;
    drop(attached.out);
    assert_eq!(stub.detached().await, attached.stream);
    let again = stub.hello().await;
    assert_eq!(again.hello.cluster, welcome().cluster.to_string());
    again.answer.send(Ok(welcome())).unwrap();
    follower.shows(|view| view.is_attached() && view.failed.is_none()).await;
}

#[tokio::test]
async fn a_super_that_is_not_there_yet_is_asked_until_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let to = PeerAddress { key: None, host: address.ip().to_string(), port: address.port() };
    let mut follower = start(settings(2, to));
    let view = follower.shows(|view| view.failed.is_some()).await;
    assert!(view.failed.unwrap().contains("is the super running"));
    let mut stub = Stub::on(TcpListener::bind(address).await.unwrap(), 1, Limits::GRPC);
    stub.welcome().await;
}

#[tokio::test]
async fn a_mute_follower_hears_pings_and_does_not_answer() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(None)));
    let attached = stub.welcome().await;
    follower.faults.change(|faults| faults.mute = true);
    attached.out.send(ToFollower::Ping(ping(1))).unwrap();
    // Messages are taken in order: once this line is there, the ping was passed over.
    attached.out.send(ToFollower::Own(own(7, Standing::Warned, None))).unwrap();
    follower.shows(|view| view.own.is_some()).await;
    follower.faults.change(|faults| faults.mute = false);
    attached.out.send(ToFollower::Ping(ping(2))).unwrap();
    assert!(matches!(stub.message().await, FromFollower::Pong(pong) if pong.nonce == 2));
}

#[tokio::test]
async fn an_offline_follower_hangs_up_without_a_goodbye_and_stays_away() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(None)));
    let attached = stub.welcome().await;
    follower.shows(FollowerView::is_attached).await;
    follower.faults.change(|faults| faults.offline = true);
    assert_eq!(stub.detached().await, attached.stream);
    follower.shows(|view| !view.is_attached()).await;
    follower.faults.change(|faults| faults.offline = false);
    stub.welcome().await;
}

#[tokio::test]
async fn faults_show_in_the_hello_and_in_pongs() {
    let mut stub = stub().await;
    let settings = settings(2, stub.peer(None));
    let old = ProtocolVersion { major: 0, minor: 0 };
    settings.faults.change(|faults| {
        faults.version = Some(old);
        faults.port = Some(1);
    });
    let _follower = start(settings);
    let attach = stub.hello().await;
    assert_eq!((attach.hello.version, attach.hello.port), (old, 1));
    assert_ne!(attach.source_port, 1);
    attach.answer.send(Ok(welcome())).unwrap();
    attach.out.send(ToFollower::Ping(ping(1))).unwrap();
    assert!(matches!(stub.message().await, FromFollower::Pong(pong) if pong.version == old));
}

#[tokio::test]
async fn a_suspended_follower_asks_to_return_when_it_may() {
    let mut stub = stub().await;
    let mut follower = start(settings(2, stub.peer(None)));
    let attached = stub.welcome().await;
    attached.out.send(ToFollower::Own(own(7, Standing::Suspended, Some(9)))).unwrap();
    attached.out.send(ToFollower::Own(own(9, Standing::Suspended, Some(9)))).unwrap();
    assert_eq!(stub.message().await, FromFollower::Return);
    // An older line, from a slower super, changes nothing.
    attached.out.send(ToFollower::Own(own(8, Standing::Good, None))).unwrap();
    attached.out.send(ToFollower::Own(own(10, Standing::Good, None))).unwrap();
    let view = follower.shows(|view| view.own.as_ref().is_some_and(|own| own.told.standing == Standing::Good)).await;
    assert_eq!(view.own.unwrap().told.round, RoundId(10));
}

#[tokio::test]
async fn two_followers_cannot_share_a_port() {
    let mut stub = stub().await;
    let port = dial::free_port().unwrap();
    let _first = start(Settings { connect_port: port, ..settings(2, stub.peer(None)) });
    let attach = stub.hello().await;
    assert_eq!(attach.source_port, port);
    let second = start(Settings { connect_port: port, once: true, ..settings(3, stub.peer(None)) });
    let error = patient(second.ended).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("set follower.connect_port to a free one"), "{error}");
}

#[tokio::test]
async fn a_follower_attaches_to_two_supers_at_once_from_one_port() {
    let (mut a, mut b, mut c) = (stub().await, Stub::start(3, Limits::GRPC).await, Stub::start(4, Limits::GRPC).await);
    let peers = [a.peer(Some(a.key.id())), b.peer(Some(b.key.id())), c.peer(Some(c.key.id()))];
    let mut follower = start(Settings { supers: peers.to_vec(), ..settings(2, a.peer(None)) });
    let mut ports = Vec::new();
    for _ in 0..OBSERVERS {
        // Which two follows from the keys.
        let attach = tokio::select! {
            attach = a.hello() => attach,
            attach = b.hello() => attach,
            attach = c.hello() => attach,
        };
        ports.push(attach.source_port);
        attach.answer.send(Ok(welcome())).unwrap();
        // The way back stays open until the test ends.
        std::mem::forget(attach.out);
    }
    assert_eq!(ports[0], ports[1]);
    let attached = |view: &FollowerView| view.supers.iter().filter(|link| link.attached).count();
    follower.shows(|view| view.supers.len() == 3 && attached(view) == OBSERVERS).await;
}

#[tokio::test]
async fn what_two_supers_say_of_a_rule_is_told_on_once() {
    let (mut a, mut b) = (stub().await, Stub::start(3, Limits::GRPC).await);
    let peers = [a.peer(Some(a.key.id())), b.peer(Some(b.key.id()))];
    let settings = Settings { supers: peers.to_vec(), ..settings(2, a.peer(None)) };
    let events = settings.events.clone();
    let mut follower = start(settings);
    // As of a place in the log: the rule in force, and one that comes in a round.
    let rules = |as_of: u64, settled: u64, active: u8, coming: Option<(u8, u64)>| {
        let policy = |seed| PolicyName { digest: Digest([seed; 32]), name: format!("r{seed}"), version: "1".into() };
        let scheduled = coming.map(|(seed, round)| ScheduledPolicy {
            policy: Some(policy(seed)),
            round: RoundId(round),
            kind: Some(ScheduledKind::Scheduled),
        });
        let slots = vec![SlotPolicies { slot: Slot::Ban, active: Some(policy(active)), scheduled }];
        let policies = Policies { as_of: LogIndex(as_of), settled: RoundId(settled), slots };
        Welcome { policies: Some(policies), ..welcome() }
    };
    let greet = async |stub: &mut Stub| {
        let attach = stub.hello().await;
        attach.answer.send(Ok(rules(1, 10, 1, None))).unwrap();
        attach.out
    };
    // Whichever it dials first: the other one is dialled when that has answered.
    let (to_a, to_b) = tokio::join!(greet(&mut a), greet(&mut b));
    let supers = [to_a, to_b];
    follower.shows(|view| view.policies.is_some() && view.supers.iter().all(|link| link.attached)).await;
    for (at, (says, rules)) in (0..).zip([
        (0, rules(5, 10, 1, Some((2, 22)))),
        (1, rules(5, 10, 1, Some((2, 22)))),
        (0, rules(7, 10, 1, None)),
        // It is behind.
        (1, rules(6, 10, 1, Some((2, 22)))),
        (1, rules(8, 11, 1, Some((3, 13)))),
        (1, rules(9, 12, 3, None)),
        (0, rules(9, 12, 3, None)),
    ]) {
        supers[says].send(ToFollower::Welcome(rules)).unwrap();
        // What it answers comes after what it read before.
        supers[says].send(ToFollower::Ping(ping(at))).unwrap();
        let heard = if says == 0 { a.message().await } else { b.message().await };
        assert!(matches!(heard, FromFollower::Pong(pong) if pong.nonce == at));
    }
    let kept = events.recent(99).unwrap().kept;
    let told: Vec<_> =
        kept.iter().map(|event| serde_json::from_str::<serde_json::Value>(&event.data).unwrap()).collect();
    let told: Vec<_> =
        told.iter().map(|told| (&told["what"], &told["name"], &told["round"], &told["notice_ms"])).collect();
    assert_eq!(
        serde_json::json!(told),
        serde_json::json!([
            ["scheduled", "r2", 22, 12_000],
            ["cancelled", "r2", 22, null],
            ["scheduled", "r3", 13, 2_000],
            ["active", "r3", 13, null],
        ])
    );
    let view = follower.view.borrow().clone();
    let slot = view.policies.as_ref().unwrap().slot(Slot::Ban).unwrap();
    assert_eq!((slot.active.as_ref().unwrap().name.as_str(), &slot.announced), ("r3", &None));
}

#[tokio::test]
async fn a_super_that_falls_silent_is_left_for_the_next_one() {
    let (mut a, mut b, mut c) = (stub().await, Stub::start(3, Limits::GRPC).await, Stub::start(4, Limits::GRPC).await);
    let peers = [a.peer(Some(a.key.id())), b.peer(Some(b.key.id())), c.peer(Some(c.key.id()))];
    let follower = start(Settings { supers: peers.to_vec(), ..settings(2, a.peer(None)) });
    let quick = Welcome { interval_ms: 400, ..welcome() };
    let mut seen = std::collections::BTreeSet::new();
    // Nobody says anything after the first welcome: two supers first, then the third one in the place of one of them.
    while seen.len() < 3 {
        let (at, mail) = tokio::select! {
            mail = a.mail() => (0, mail),
            mail = b.mail() => (1, mail),
            mail = c.mail() => (2, mail),
        };
        if let Mail::Attach(attach) = mail {
            if seen.insert(at) {
                attach.answer.send(Ok(quick.clone())).unwrap();
                std::mem::forget(attach.out);
            } else {
                std::mem::forget((attach.answer, attach.out));
            }
        }
    }
    follower.stop.cancel();
    patient(follower.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_super_it_does_not_start() {
    let to = PeerAddress { key: None, host: "localhost".into(), port: 1 };
    let follower = start(Settings { supers: Vec::new(), ..settings(2, to) });
    assert!(matches!(patient(follower.ended).await.unwrap(), Err(FollowerError::NoSupers)));
}
