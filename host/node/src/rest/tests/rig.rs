//! A super with a cluster in memory, and native rules: 10 points a round for who is up; who is down gets a strike, and
//! with two a ban of five rounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use kernel::columns::Deciding;
use kernel::command::{Chunk, Command, Found, Ip, Join, Operate, Operation, Operator, Ready, Stage, Super};
use kernel::decide::{Call, Description, Judgement, Policy, Reward, Run, Slot, Tariff, presence};
use kernel::id::{ClusterId, Digest, Genesis, LogIndex, NodeId, ProtocolVersion, RoundId, Seat};
use kernel::outcome::{Notice, Reply};
use kernel::round::{Bits, Report, SeatReport};
use kernel::settings::Settings;
use serde_json::Value;
use store::Store;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::config::Role;
use crate::context::{Context, FollowerPart, Part, RecordsPart, SuperPart};
use crate::events::Events;
use crate::group::{self, Disks, Group};
use crate::keys::NodeKey;
use crate::known::Known;
use crate::metrics::Metrics;
use crate::prepare::Policies;
use crate::records::hub::Hub;
use crate::records::ingress::Ingress;
use crate::records::validator::Way;
use crate::rest::access::Admin;
use crate::rest::{App, Entrances, app, entrances};
use crate::roles::follower::FollowerView;
use crate::roles::supernode::Order;
use crate::shadow::Shadows;
use crate::streams::Streams;
use crate::tasks::Tasks;
use crate::wires::Wires;

/// The admin token of every rig.
pub const TOKEN: &str = "00000000000000000000000000000000000000000000000000000000000000aa";
/// The run of its events.
pub const RUN: u64 = 77;

/// See the module.
pub struct Rig {
    pub router: Router,
    /// The same routes as the admin socket serves them.
    pub socket: Router,
    /// Behind the same routes, but patient for 20 ms only.
    pub(in crate::rest) app: App,
    pub group: Group,
    pub events: Events,
    notices: broadcast::Receiver<Arc<Notice>>,
    order: watch::Sender<Order>,
    _tasks: Tasks,
}

/// An answer, read whole.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The code of a problem, which must be whole.
    pub fn code(&self) -> String {
        let problem = self.json();
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        assert_eq!(problem["status"], self.status.as_u16(), "{}", self.text);
        for field in ["type", "title", "detail", "code", "hint", "instance"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {}", self.text);
        }
        assert!(!self.text.contains("/src/") && !self.text.contains("/tmp/"), "no internals: {}", self.text);
        problem["code"].as_str().unwrap().to_string()
    }
}

/// The key of follower `n`.
pub fn key(n: u8) -> NodeKey {
    NodeKey::from_seed(&[n; 32])
}

impl Rig {
    pub async fn new() -> Self {
        Self::with_addresses(false).await
    }

    pub async fn with_addresses(public_addresses: bool) -> Self {
        Self::on(&Disks::memory(), public_addresses).await
    }

    /// On these disks: a cluster is founded where there is none.
    pub async fn on(disks: &Disks, public_addresses: bool) -> Self {
        let (metrics, tasks) = (taking_part(), Tasks::new());
        let store = Arc::new(disks.open(64 << 20).unwrap());
        let node = key(200).id();
        let found = Found {
            cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) },
            founder: Super { node, name: "super-1".into(), address: "127.0.0.1:7001".into() },
            settings: Settings::default(),
            now_ms: 0,
        };
        let (group, founded) =
            group::alone(disks, Arc::clone(&store), found, Arc::clone(&metrics), &tasks).await.unwrap();
        let (order, watched) = watch::channel(Order::default());
        let events = Events::new(RUN);
        let context = Context {
            metrics,
            events: events.clone(),
            public_addresses,
            ..a_super(node, "super-1", group.clone(), store, watched)
        };
        let (context, admin) = (Arc::new(context), Admin::with_token(TOKEN));
        let Entrances { tcp, grpc: _, socket } = entrances(Arc::clone(&context), admin.clone());
        let app = app(context, admin, Duration::from_millis(20));
        let rig = Self { router: tcp, socket, app, notices: group.notices(), group, events, order, _tasks: tasks };
        if founded {
            for slot in Slot::ALL {
                rig.install(slot).await;
            }
        }
        rig
    }

    async fn install(&self, slot: Slot) {
        let bytes = slot.name().as_bytes().to_vec();
        let (component, now_ms) = (Digest::of(&bytes), self.group.now_ms());
        let size = u32::try_from(bytes.len()).unwrap();
        self.propose(Command::Chunk(Chunk { component, size, offset: 0, bytes })).await;
        let config = "{\"level\":3}".to_string();
        let description = Rule.description().clone();
        let by = Operator::File;
        let staged = Command::Stage(Stage { slot, component, config, description, by, now_ms });
        let Reply::Staged { policy, .. } = self.propose(staged).await else { panic!("not staged") };
        self.propose(Command::Ready(Ready { seat: Seat(0), policy })).await;
        self.decide(Operation::Activate { slot, policy, round: None }).await;
    }

    pub async fn propose(&self, command: Command) -> Reply {
        self.group.propose(command).await.unwrap().unwrap()
    }

    pub async fn decide(&self, what: Operation) -> Reply {
        let now_ms = self.group.now_ms();
        self.propose(Command::Operate(Operate { by: Operator::Console, reason: "test".into(), now_ms, what })).await
    }

    /// Followers 1 to `count` join and are in the queue, in round 1.
    pub async fn with_followers(mut self, count: u8) -> Self {
        for n in 1..=count {
            let join = Join {
                node: key(n).id(),
                name: format!("follower-{n}"),
                version: ProtocolVersion::OURS,
                software: "0.1.0".into(),
                ip: Ip::V4([127, 0, 0, n]),
                port: 7_100 + u16::from(n),
                rest: None,
                now_ms: self.group.now_ms(),
            };
            self.propose(Command::Join(join)).await;
        }
        self.settle(&[]).await;
        self
    }

    /// Settles the next round: the followers named are down, all others up.
    pub async fn settle(&mut self, down: &[u8]) -> RoundId {
        let down: Vec<NodeId> = down.iter().map(|n| key(*n).id()).collect();
        let deciding = self.group.read(|state| {
            let queue = &state.queue;
            let up = |node: &NodeId| if down.contains(node) { presence::DOWN } else { presence::UP };
            let report = Report {
                round: state.meta.settled.next(),
                term: state.meta.term,
                presence: queue.iter().map(up).collect(),
                facts: vec![0; queue.len()],
                asked: vec![1; queue.len()],
                seen: vec![1; queue.len()],
                data: vec![0; queue.len()],
                returns: Bits::zeros(queue.len()),
                seats: vec![SeatReport {
                    seat: Seat(0),
                    came: true,
                    lag_ms: 0,
                    open_since_ms: 1,
                    refused: 0,
                    grace_until: RoundId(0),
                    load_rounds: 0,
                    rtt: vec![250; queue.len()],
                }],
                ..Report::default()
            };
            Deciding::gather(state, report, Vec::new(), self.group.now_ms())
        });
        let settle = deciding.run(Some(&Rule), Some(&Rule), "native").0;
        let Reply::Settled { round } = self.propose(Command::Settle(Box::new(settle))).await else {
            panic!("not settled")
        };
        let nodes = self.group.read(|state| state.queue.iter().rev().copied().collect());
        self.order.send_replace(Order { round, nodes });
        self.publish();
        round
    }

    /// Notices become events, as the node's own task does.
    pub fn publish(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            self.group.read(|state| self.events.notice(&notice, state));
        }
    }

    pub async fn ask(&self, request: Request<Body>) -> Answer {
        ask(&self.router, request).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await
    }

    /// The JSON of a read that must succeed.
    pub async fn read(&self, path: &str) -> Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text);
        answer.json()
    }

    /// With the admin token.
    pub async fn operate(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        self.ask(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        self.ask(Request::post(path).body(body.into()).unwrap()).await
    }

    /// All that an error must leave as it was: the log's end and the books.
    pub fn fingerprint(&self) -> (u64, i128, u64) {
        self.group.read(|state| (state.meta.applied.0, state.sum(), state.meta.settled.0))
    }
}

/// What a super counts that hears of rounds: here nobody opens any.
fn taking_part() -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.open.set(1);
    Arc::new(metrics)
}

/// What the interface of a super works on.
pub fn a_super(node: NodeId, name: &str, group: Group, store: Arc<Store>, order: watch::Receiver<Order>) -> Context {
    Context {
        node,
        name: name.into(),
        role: Role::Super,
        started: Instant::now(),
        metrics: taking_part(),
        events: Events::new(RUN),
        public_addresses: false,
        part: Part::Super(SuperPart {
            policies: Policies::new(group.clone(), node, policy::Engine::new().unwrap()),
            shadows: Shadows::default(),
            hub: Hub::new(group.clone(), node),
            key: Arc::new(key(1)),
            group,
            store,
            streams: Streams::default(),
            order,
            in_memory: true,
        }),
    }
}

/// A follower's interface.
pub fn follower(view: FollowerView) -> Router {
    let (_, own) = watch::channel(view);
    let context = Context {
        node: key(1).id(),
        name: "follower-1".into(),
        role: Role::Follower,
        started: Instant::now(),
        metrics: Arc::new(Metrics::new()),
        events: Events::new(RUN),
        public_addresses: false,
        part: Part::Follower(FollowerPart { own, records: no_records() }),
    };
    entrances(Arc::new(context), Admin::none()).tcp
}

/// A node that knows of no validators yet.
fn no_records() -> RecordsPart {
    let way = Way { key: key(1), known: Known::in_memory(), wires: Wires::default() };
    // Nobody takes what would be handed on: these tests hand nothing on.
    let (ingress, _) = Ingress::new(way, watch::channel(Vec::new()).1, CancellationToken::new());
    RecordsPart {
        cluster: watch::channel(None).1,
        ingress,
        following: watch::channel(None).1,
        store: watch::channel(None).1,
        sealed: watch::channel(LogIndex(0)).1,
        raw_open: false,
        directory: watch::channel(None).1,
    }
}

pub async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

/// See the module.
struct Rule;

impl Policy for Rule {
    fn description(&self) -> &Description {
        static SAID: std::sync::OnceLock<Description> = std::sync::OnceLock::new();
        SAID.get_or_init(|| Description {
            name: "rule".into(),
            version: "1.0.0".into(),
            reasons: vec!["missed".into(), "answered".into()],
            ..Description::default()
        })
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        let up: Vec<bool> = call.members.presence.iter().map(|code| *code == presence::UP).collect();
        Run::native(Ok(Reward {
            points: up.iter().map(|up| if *up { 10 } else { 0 }).collect(),
            reasons: up.iter().map(|up| if *up { 2 } else { 0 }).collect(),
            memory: Vec::new(),
            tariff: Tariff::default(),
        }))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        let members = call.members;
        let strikes: Vec<u16> = members
            .presence
            .iter()
            .zip(&members.strikes)
            .map(|(code, strikes)| if *code == presence::DOWN { strikes + 1 } else { 0 })
            .collect();
        let banned: Vec<bool> = strikes.iter().map(|strikes| *strikes >= 2).collect();
        Run::native(Ok(Judgement {
            standing: strikes.iter().map(|strikes| (*strikes).min(1) as u8 + 2 * u8::from(*strikes >= 2)).collect(),
            until: banned.iter().map(|banned| if *banned { 5 } else { 0 }).collect(),
            reasons: strikes.iter().map(|strikes| u16::from(*strikes > 0)).collect(),
            strikes,
            memory: Vec::new(),
        }))
    }
}
