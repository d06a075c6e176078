//! The loop alone, with mail put in by hand.

use kernel::command::{Chunk, Found, Operate, Operation, Operator, Ready, Stage, Super};
use kernel::decide::{Description, Slot};
use kernel::id::{ClusterId, Digest, Genesis, Seat};
use kernel::settings::Settings;
use policy::Engine;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::message::{Hello, Policies as ToldPolicies, Role, ScheduledKind, SlotPolicies, Welcome};

use super::*;
use crate::group::{self, Disks};
use crate::listen::Limits;
use crate::mail::Out;

/// A hang is a failure; nothing else depends on it.
const HANG: Duration = Duration::from_secs(60);
const FOLLOWER: NodeId = NodeId([9; 32]);

struct Rig {
    group: Group,
    mailbox: mpsc::Sender<Mail>,
    tasks: Tasks,
    _other_supers: mpsc::Sender<SuperMail>,
}

/// A loop with rounds of an hour, so that nothing but the test writes to the log.
async fn rig() -> (Rig, Supernode) {
    let key = Arc::new(NodeKey::from_seed(&[1; 32]));
    let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
    let found = Found {
        cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
        founder: Super { node: key.id(), name: "super-1".into(), address: "127.0.0.1:7001".into() },
        settings: Settings { interval_ms: 3_600_000, ..Settings::default() },
        now_ms: 0,
    };
    let disks = Disks::memory();
    let store = Arc::new(disks.open(1 << 20).unwrap());
    let (group, _) = group::alone(&disks, store, found, Arc::clone(&metrics), &tasks).await.unwrap();
    let (mail, mailbox) = mpsc::channel(4 * TAKEN);
    let (other_supers, supers) = mpsc::channel(1);
    let supernode = Supernode::new(Parts {
        peers: Peers::new(group.clone(), Arc::new(group::Links::none())),
        policies: Policies::new(group.clone(), key.id(), Engine::new().unwrap()),
        key,
        group: group.clone(),
        streams: Streams::default(),
        events: Events::new(1),
        order: watch::channel(Order::default()).0,
        gate: Gate::new(Limits::GRPC, metrics.connections_refused.clone()),
        metrics,
        mailbox,
        supers,
        tasks: tasks.clone(),
    });
    (Rig { group, mailbox: mail, tasks, _other_supers: other_supers }, supernode)
}

struct Client {
    attach: Box<Attach>,
    welcome: oneshot::Receiver<Result<Welcome, Refusal>>,
    from: mpsc::Receiver<Box<ToFollower>>,
}

/// A hello on a new stream.
fn hello(stream: u64) -> Client {
    let (out, from, _stuck) = Out::new(16);
    let (answer, welcome) = oneshot::channel();
    let attach = Attach {
        stream: StreamId(stream),
        node: FOLLOWER,
        hello: Hello {
            cluster: "lab".into(),
            role: Role::Follower,
            name: "f".into(),
            version: ProtocolVersion::OURS,
            software: String::new(),
            port: 7101,
            rest: None,
        },
        ip: [127, 0, 0, 1].into(),
        source_port: 7101,
        out,
        answer,
    };
    Client { attach: Box::new(attach), welcome, from }
}

impl Rig {
    /// Runs the loop until its first round, in which nobody is, is settled: the next one is an hour away.
    async fn run(&self, supernode: Supernode) {
        self.tasks.spawn("loop", supernode.run());
        let settled = timeout(HANG, async {
            while self.group.applied().borrow().settled != RoundId(1) {
                // Of no stream, so that the loop looks at its round once more.
                self.says(77, FromFollower::Return).await;
                tokio::task::yield_now().await;
            }
        });
        settled.await.unwrap();
    }

    async fn says(&self, stream: u64, what: FromFollower) {
        let mail = Mail::Message { stream: StreamId(stream), node: FOLLOWER, at: Instant::now(), what };
        self.mailbox.send(mail).await.unwrap();
    }

    /// Lets the loop run until a client is welcome.
    async fn attach(&self, stream: u64) -> mpsc::Receiver<Box<ToFollower>> {
        let Client { attach, welcome, from } = hello(stream);
        self.mailbox.send(Mail::Attach(attach)).await.unwrap();
        timeout(HANG, welcome).await.unwrap().unwrap().unwrap();
        from
    }

    /// Puts something through the log.
    async fn propose(&self, command: Command) -> Reply {
        self.group.propose(command).await.unwrap().unwrap()
    }

    async fn operate(&self, what: Operation) -> Reply {
        let operate = Operate { by: Operator::Console, reason: "test".into(), now_ms: self.group.now_ms(), what };
        self.propose(Command::Operate(operate)).await
    }

    /// A ban rule that is ready and does not count.
    async fn stages(&self) -> Digest {
        let bytes = b"no component, but nobody runs it".to_vec();
        let (component, size) = (Digest::of(&bytes), bytes.len() as u32);
        self.propose(Command::Chunk(Chunk { component, size, offset: 0, bytes })).await;
        let stage = Stage {
            slot: Slot::Ban,
            component,
            config: "{}".into(),
            description: Description { name: "lenient".into(), version: "0.2.0".into(), ..Description::default() },
            by: Operator::Console,
            now_ms: self.group.now_ms(),
        };
        let Reply::Staged { policy, .. } = self.propose(Command::Stage(stage)).await else { panic!("not staged") };
        self.propose(Command::Ready(Ready { seat: Seat(0), policy })).await;
        policy
    }

    /// Until its way back is closed.
    async fn is_closed(&self, mut from: mpsc::Receiver<Box<ToFollower>>) {
        timeout(HANG, async { while from.recv().await.is_some() {} }).await.unwrap();
    }

    async fn end(self) {
        self.tasks.kill();
        self.group.stopped().cancelled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_goodbye_a_stream_reaches_the_log_and_the_others_are_a_flood() {
    let (rig, supernode) = rig().await;
    rig.run(supernode).await;
    let from = rig.attach(1).await;
    let joined = rig.group.applied().borrow().index;
    for _ in 0..=kernel::limits::UNASKED_MESSAGES + 1 {
        rig.says(1, FromFollower::Goodbye).await;
    }
    rig.is_closed(from).await;
    // Behind the one goodbye, and all that there is.
    let mut applied = rig.group.applied();
    timeout(HANG, applied.wait_for(|applied| applied.index.0 > joined.0)).await.unwrap().unwrap();
    assert!(rig.group.read(|state| !state.can_leave(&FOLLOWER)));

    // Back with a new stream: it has joined again, so its goodbye counts again, once.
    let from = rig.attach(2).await;
    let back = rig.group.applied().borrow().index;
    for _ in 0..=kernel::limits::UNASKED_MESSAGES + 1 {
        rig.says(2, FromFollower::Goodbye).await;
    }
    rig.is_closed(from).await;
    timeout(HANG, applied.wait_for(|applied| applied.index.0 > back.0)).await.unwrap().unwrap();
    assert_eq!((back.0, applied.borrow().index.0), (joined.0 + 2, joined.0 + 3));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_message_that_nobody_asked_for_is_a_flood_when_it_does_not_end() {
    let (rig, supernode) = rig().await;
    rig.run(supernode).await;
    let again = hello(0).attach.hello;
    let ping = Ping { round: RoundId(1), term: Term(1), nonce: 7 };
    let kinds = [FromFollower::Return, FromFollower::Hello(again), FromFollower::Ping(ping)];
    for (stream, what) in (1..).zip(kinds) {
        let from = rig.attach(stream).await;
        let before = rig.group.applied().borrow().index;
        for _ in 0..=kernel::limits::UNASKED_MESSAGES + 1 {
            rig.says(stream, what.clone()).await;
        }
        rig.is_closed(from).await;
        assert_eq!(rig.group.applied().borrow().index, before, "{what:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn a_mailbox_that_is_never_empty_starves_no_result() {
    let (rig, mut supernode) = rig().await;
    let Client { attach, welcome, .. } = hello(1);
    supernode.attached.wait(FOLLOWER, StreamId(1));
    let reply = Ok(Ok(Reply::Done));
    assert!(supernode.done.try_send(Done::Joined { attach, reply }).is_ok());
    // A flood, and behind it the end of the stream that waits: whoever takes all mail first welcomes nobody.
    for _ in 0..3 * TAKEN {
        rig.says(77, FromFollower::Return).await;
    }
    rig.mailbox.send(Mail::Detached { stream: StreamId(1), node: FOLLOWER }).await.unwrap();
    rig.tasks.spawn("loop", supernode.run());
    assert!(timeout(HANG, welcome).await.unwrap().is_ok_and(|welcome| welcome.is_ok()));
    rig.end().await;
}

/// The ban slot in the next welcome on a stream; whatever else comes is passed over.
async fn told(from: &mut mpsc::Receiver<Box<ToFollower>>) -> (ToldPolicies, SlotPolicies) {
    let welcome = async {
        loop {
            if let ToFollower::Welcome(welcome) = *from.recv().await.unwrap() {
                return welcome.policies.unwrap();
            }
        }
    };
    let policies = timeout(HANG, welcome).await.unwrap();
    let slot = policies.slots.iter().find(|slot| slot.slot == Slot::Ban).unwrap().clone();
    (policies, slot)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_rules_is_told_at_once_and_not_only_with_the_next_settlement() {
    let (rig, supernode) = rig().await;
    rig.run(supernode).await;
    let policy = rig.stages().await;
    let mut from = rig.attach(1).await;
    // The next settlement is an hour away.
    let (slot, round) = (Slot::Ban, Some(RoundId(20)));
    rig.operate(Operation::Activate { slot, policy, round }).await;
    let (policies, slot) = told(&mut from).await;
    assert_eq!((policies.settled, slot.active), (RoundId(1), None));
    let scheduled = slot.scheduled.unwrap();
    assert_eq!((scheduled.round, scheduled.kind), (RoundId(20), Some(ScheduledKind::Scheduled)));
    let name = scheduled.policy.unwrap();
    assert_eq!((name.digest, name.name.as_str(), name.version.as_str()), (policy, "lenient", "0.2.0"));

    rig.operate(Operation::Rollback(Slot::Ban)).await;
    let (taken_back, slot) = told(&mut from).await;
    assert_eq!(slot.scheduled, None, "it was told once, and then that it does not come");
    assert!(taken_back.as_of > policies.as_of, "which of the two is later can be seen in the same round");

    // Who comes later hears of it with its welcome.
    let round = Some(RoundId(30));
    rig.operate(Operation::Activate { slot: Slot::Ban, policy, round }).await;
    let Client { attach, welcome, .. } = hello(2);
    rig.mailbox.send(Mail::Attach(attach)).await.unwrap();
    let welcome = timeout(HANG, welcome).await.unwrap().unwrap().unwrap();
    let slots = welcome.policies.unwrap().slots;
    let coming = slots.into_iter().filter_map(|slot| slot.scheduled).map(|scheduled| Some(scheduled.round));
    assert_eq!(coming.collect::<Vec<_>>(), [round]);
    rig.end().await;
}
