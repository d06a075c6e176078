//! Two supers in one process, over pipes: what a super that does not lead answers, and one that nobody leads.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use kernel::command::{Found, Super};
use kernel::id::{ClusterId, Genesis, NodeId};
use kernel::settings::Settings;
use raft::{Caller, Connecting, Connector, Group, Io, Keeping, Lane, Parts, Roster, Runs, Timing};
use serde_json::Value;
use store::{Disk, Replica, SpoolRoom, Store};
use tokio::sync::watch;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use super::rig::{Answer, TOKEN, a_super, ask, key};
use crate::rest::access::Admin;
use crate::rest::{app, router};
use crate::roles::supernode::Order;

/// Whoever waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub async fn patient<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// The supers that can be reached, by address.
#[derive(Clone, Debug, Default)]
struct Doors(Arc<Mutex<BTreeMap<String, (NodeId, Group)>>>);

#[derive(Debug)]
struct Line {
    me: NodeId,
    doors: Doors,
}

impl Connector for Line {
    fn connect(&self, to: &Replica, _: Lane) -> Connecting {
        let (me, doors, to) = (self.me, self.doors.clone(), to.clone());
        Box::pin(async move {
            let door = doors.0.lock().unwrap().get(&to.address).cloned();
            let (_, group) = door.filter(|(key, _)| *key == to.key).ok_or(io::ErrorKind::ConnectionRefused)?;
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            let service = InterceptedService::new(group.server(), move |mut request: tonic::Request<()>| {
                request.extensions_mut().insert(Caller(me));
                Ok(request)
            });
            let served =
                Server::builder()
                    .add_service(service)
                    .serve_with_incoming(tokio_stream::once(Ok::<_, io::Error>(theirs)));
            tokio::spawn(async move {
                let _ended = served.await;
            });
            Ok(Box::new(ours) as Box<dyn Io>)
        })
    }
}

#[derive(Debug)]
struct All(BTreeSet<NodeId>);

impl Roster for All {
    fn admits(&self, key: &NodeId) -> bool {
        self.0.contains(key)
    }
}

/// A super of the pair.
pub struct One {
    pub key: NodeId,
    pub address: String,
    pub group: Group,
    pub router: Router,
    _order: watch::Sender<Order>,
}

impl One {
    async fn start(n: u8, doors: &Doors) -> Self {
        let (key, address) = (key(200 + n).id(), format!("super-{n}:7001"));
        let store = Arc::new(Store::open(&Disk::memory(), 1 << 20).unwrap());
        let name = format!("super-{n}");
        let founder = Super { node: key, name: name.clone(), address: address.clone() };
        let cluster = ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) };
        let parts = Parts {
            key,
            address: address.clone(),
            log: Disk::memory(),
            store: Arc::clone(&store),
            spools: SpoolRoom::memory(),
            connector: Arc::new(Line { me: key, doors: doors.clone() }),
            roster: Arc::new(All((0..2).map(|n| super::rig::key(200 + n).id()).collect())),
            timing: Timing::default(),
            keeping: Keeping::default(),
            runs: Runs::OnThreads,
            watcher: Arc::new(()),
            found: Found { cluster, founder, settings: Settings::default(), now_ms: 0 },
            may_found: n == 0,
        };
        let group = patient(Group::open(parts)).await.unwrap();
        doors.0.lock().unwrap().insert(address.clone(), (key, group.clone()));
        let (order, watched) = watch::channel(Order::default());
        let context = Arc::new(a_super(key, &name, group.clone(), store, watched));
        // A read waits for a leader for a sixth of this.
        let router = router(app(context, Admin::with_token(TOKEN), Duration::from_secs(30)));
        Self { key, address, group, router, _order: order }
    }

    /// With the admin token.
    pub async fn operate(&self, method: &str, path: &str, body: &Value) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        patient(ask(&self.router, request.body(Body::from(body.to_string())).unwrap())).await
    }

    /// The same, only if the tag is still so.
    pub async fn operate_if(&self, method: &str, path: &str, body: &Value, tag: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {TOKEN}"));
        let request = request.header("if-match", tag).body(Body::from(body.to_string())).unwrap();
        patient(ask(&self.router, request)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.operate("GET", path, &Value::Null).await
    }
}

/// A founder, and an empty super that waits.
pub async fn pair() -> [One; 2] {
    let doors = Doors::default();
    [One::start(0, &doors).await, One::start(1, &doors).await]
}
