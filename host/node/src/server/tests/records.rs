//! Users' records on their way through whole nodes: taken in by a follower, ordered by supers, signed by a quorum, kept by
//! everybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use http_body_util::BodyExt as _;
use kernel::command::{Operate, Operation, Operator};
use kernel::envelope::RECORD_TYPE;
use kernel::records::certificate::Verdict;
use kernel::records::order::Ordered;
use kernel::records::record::Record;
use kernel::records::validators::Validator;
use serde_json::Value;
use store::Disk;
use tokio::sync::watch;
use wire::records::Fetched;

use super::several::Several;
use super::*;
use crate::client::Api;
use crate::context::RecordsPart;
use crate::records::directory::Directory;
use crate::records::header::{Header, draw};
use crate::records::ingress::now_ms;
use crate::records::keeper::fetched;
use crate::records::signer::ValidatorFaults;

/// A validator's place, which outlives its node.
struct Signing {
    key: NodeKey,
    config: Config,
    disk: Disk,
    faults: Arc<ValidatorFaults>,
    node: Option<Node>,
}

impl Signing {
    /// Starts it, adds it to the set, and waits until it has a stream to a super.
    async fn start_new(number: u8, several: &Several) -> Self {
        let name = format!("validator-{number}");
        let mut config = Config::in_memory(Role::Validator, &name, &several.folder(&name));
        config.supers = several.addresses();
        let key = NodeKey::from_seed(&[200 + number; 32]);
        let mut one = Self { key, config, disk: Disk::memory(), faults: Arc::default(), node: None };
        one.start().await;
        one.config.grpc = one.node().grpc_address().unwrap();
        let address = one.config.grpc.to_string();
        let validator = Validator { node: one.key.id(), name, address, came: false };
        operate(several, Operation::AddValidator(validator)).await;
        one
    }

    async fn start(&mut self) {
        let parts = StartParts {
            key: Some(self.key.clone()),
            records: Some(self.disk.clone()),
            signing: Arc::clone(&self.faults),
            ..StartParts::default()
        };
        self.node = Some(timeout(HANG, Node::start(self.config.clone(), parts)).await.unwrap().unwrap());
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }
}

async fn operate(several: &Several, what: Operation) -> Reply {
    let leader = several.leader().await;
    let operate = Operate { by: Operator::Socket, reason: "test".into(), now_ms: leader.now_ms(), what };
    leader.propose(Command::Operate(operate)).await.unwrap().unwrap()
}

/// Supers with so many validators, all of which have their streams.
async fn lab(supers: usize, validators: u8) -> (Several, Vec<Signing>) {
    let several = Several::of(supers, 500).await;
    let mut all = Vec::new();
    for number in 1..=validators {
        all.push(Signing::start_new(number, &several).await);
    }
    for one in &all {
        attached(one, supers).await;
    }
    (several, all)
}

async fn attached(one: &Signing, supers: usize) {
    let mut view = one.node().context().as_validator().unwrap().view.clone();
    timeout(HANG, view.wait_for(|view| view.supers.len() >= supers && view.leader.is_some())).await.unwrap().unwrap();
}

fn part(node: &Node) -> RecordsPart {
    node.context().records().unwrap().clone()
}

async fn ready<T: Clone>(mut value: watch::Receiver<Option<T>>) -> T {
    timeout(HANG, value.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap()
}

/// Hands a record in that a user signed.
async fn submit(node: &Node, body: &str) -> (Digest, u64) {
    let part = part(node);
    let cluster = ready(part.cluster.clone()).await;
    let author = NodeKey::from_seed(&[50; 32]);
    let header = Header { cluster: cluster.to_string(), nonce: draw().unwrap(), expires_ms: now_ms() + 60_000 };
    let payload = header.payload(body.as_bytes());
    let record = Record { author: author.id(), signature: Some(author.sign(RECORD_TYPE, &payload)), payload };
    let digest = record.digest();
    match part.ingress.take(record).await.unwrap() {
        Ordered::At { sequence, .. } => (digest, sequence),
        Ordered::Refused(reject) => panic!("{reject:?}"),
    }
}

/// Waits until a node keeps a record, checked.
async fn kept(node: &Node, digest: Digest) -> Fetched {
    let part = part(node);
    let store = ready(part.store.clone()).await;
    let mut sealed = part.sealed.clone();
    let found = timeout(HANG, async {
        loop {
            sealed.mark_unchanged();
            if let Some((batch, place)) = store.by_digest(&digest).unwrap() {
                return fetched(&batch, place).unwrap();
            }
            sealed.changed().await.unwrap();
        }
    });
    let Ok(found) = found.await else { panic!("{} never kept {digest}", node.context().name) };
    found.proof.check(digest).unwrap();
    let directory = part.directory.borrow().clone();
    if let Some((set, quorum)) = directory.and_then(|d| d.set_of(found.proof.certificate.attestation.set_version)) {
        found.proof.certificate.check(&set, quorum).unwrap();
    }
    found
}

async fn stop_all(several: Several, validators: Vec<Signing>, others: Vec<Node>) {
    end(others).await;
    for one in validators {
        if let Some(node) = one.node {
            node.stop().await.unwrap();
        }
    }
    several.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_signed_by_a_quorum_and_kept_by_every_node() {
    let (several, validators) = lab(1, 4).await;
    let followers = several.followers(2).await;
    let (first, sequence) = submit(&followers[0], "hello").await;
    assert_eq!(sequence, 1);
    let (second, sequence) = submit(validators[1].node(), "world").await;
    assert_eq!(sequence, 2);
    for digest in [first, second] {
        for node in validators.iter().map(Signing::node).chain(&followers) {
            let found = kept(node, digest).await;
            assert_eq!(found.proof.verdict, Verdict::Signed);
            assert!(found.proof.certificate.signatures.len() >= 3);
        }
    }
    // The same record again has its place already, whoever takes it in; one that is too long for the rule is refused.
    let long = "x".repeat(65_536);
    let (refused, _) = submit(&followers[1], &long).await;
    let found = kept(&followers[0], refused).await;
    assert_eq!(found.proof.verdict, Verdict::Signed, "the rule's own bound is the longest body");
    let leader = several.leader().await;
    let (signed, pending) = leader.read(|state| (state.meta.records.signed, state.known.pending.len()));
    assert_eq!((signed, pending), (3, 0));
    stop_all(several, validators, followers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_validator_of_four_may_be_dead_and_learns_later_what_it_missed() {
    let (several, mut validators) = lab(1, 4).await;
    let follower = several.follower(1).await;
    kept(&follower, submit(&follower, "before").await.0).await;
    validators[2].node.take().unwrap().kill().await;
    let mut missed = Vec::new();
    for number in 0..6 {
        let digest = submit(&follower, &format!("missed {number}")).await.0;
        kept(&follower, digest).await;
        missed.push(digest);
    }
    validators[2].start().await;
    for digest in missed {
        kept(validators[2].node(), digest).await;
    }
    let after = submit(&follower, "after").await.0;
    kept(validators[2].node(), after).await;
    stop_all(several, validators, vec![follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_that_withholds_or_is_mute_costs_a_timeout_and_nothing_else() {
    let (several, validators) = lab(1, 4).await;
    let follower = several.follower(1).await;
    kept(&follower, submit(&follower, "before").await.0).await;
    for fault in [0, 1] {
        let faults = &validators[0].faults;
        let kinds = [&faults.withholds, &faults.mute];
        kinds[fault].store(true, Ordering::Relaxed);
        // Each has its turn in four batches in a row.
        for number in 0..4 {
            kept(&follower, submit(&follower, &format!("{fault} {number}")).await.0).await;
        }
        kinds[fault].store(false, Ordering::Relaxed);
    }
    let leader = several.leader().await;
    let (set, refused) = leader.read(|state| (state.validators.set.len(), state.meta.records.refused));
    assert_eq!((set, refused), (4, 0), "nobody was accused");
    stop_all(several, validators, vec![follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_that_shows_another_root_costs_a_timeout_and_is_removed_by_those_who_saw_both() {
    let (several, validators) = lab(1, 4).await;
    let follower = several.follower(1).await;
    kept(&follower, submit(&follower, "before").await.0).await;
    let liar = validators[0].key.id();
    validators[0].faults.lies.store(true, Ordering::Relaxed);
    let leader = several.leader().await;
    // It signs the truth when others ask for it: the certificate that has its signature is the proof.
    let mut number = 0;
    while leader.read(|state| state.validators.get(&liar).is_some()) {
        kept(&follower, submit(&follower, &format!("{number}")).await.0).await;
        number += 1;
        assert!(number < 100, "nobody accused it");
    }
    let left: Vec<NodeId> = leader.read(|state| state.validators.set.iter().map(|one| one.node).collect());
    assert_eq!(left.len(), 3, "and nobody else was accused: {left:?}");
    kept(&follower, submit(&follower, "after").await.0).await;
    stop_all(several, validators, vec![follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_of_the_supers_and_the_set_may_change_while_batches_are_open() {
    let (mut several, mut validators) = lab(3, 4).await;
    let followers = several.followers(2).await;
    kept(&followers[0], submit(&followers[0], "before").await.0).await;
    let mut all = Vec::new();
    for number in 0..4 {
        all.push(submit(&followers[0], &format!("first {number}")).await.0);
    }
    let (leads, _) = several.leading().await;
    several.kill(leads).await;
    for number in 0..4 {
        all.push(submit(&followers[1], &format!("second {number}")).await.0);
    }
    operate(&several, Operation::RemoveValidator(validators[3].key.id())).await;
    for number in 0..4 {
        all.push(submit(&followers[0], &format!("third {number}")).await.0);
    }
    several.start(leads).await;
    for digest in &all {
        for follower in &followers {
            kept(follower, *digest).await;
        }
    }
    let mut sequences = BTreeSet::new();
    for digest in &all {
        let sequence = kept(&followers[0], *digest).await.proof.sequence();
        assert!(sequences.insert(sequence), "two records have one number");
    }
    let removed = validators.remove(3);
    removed.node.unwrap().stop().await.unwrap();
    stop_all(several, validators, followers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_lost_its_table_signs_nothing_of_before() {
    let (several, mut validators) = lab(1, 4).await;
    let follower = several.follower(1).await;
    kept(&follower, submit(&follower, "before").await.0).await;
    let lost = &mut validators[0];
    lost.node.take().unwrap().kill().await;
    lost.disk = Disk::memory();
    lost.start().await;
    let store = ready(part(lost.node()).store.clone()).await;
    attached(lost, 1).await;
    let mut bound = 0;
    timeout(HANG, async {
        while bound == 0 {
            bound = store.abstain_below().unwrap();
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let ordered = several.leader().await.read(|state| state.meta.records.batch);
    assert!(bound >= 1 && bound <= ordered, "{bound} of {ordered}");
    // It takes part in what is ordered from now on.
    for number in 0..4 {
        kept(lost.node(), submit(&follower, &format!("after {number}")).await.0).await;
    }
    stop_all(several, validators, vec![follower]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_with_a_bootstrap_address_joins_and_misses_nothing_when_the_bootstrap_dies() {
    let (several, validators) = lab(1, 1).await;
    let mut config = Config::in_memory(Role::Bootstrap, "bootstrap-1", &several.folder("bootstrap-1"));
    config.supers = several.addresses();
    let key = Some(NodeKey::from_seed(&[90; 32]));
    let bootstrap = Node::start(config, StartParts { key, ..StartParts::default() }).await.unwrap();
    let at = bootstrap.grpc_address().unwrap();
    let to = PeerAddress { key: Some(bootstrap.context().node), host: at.ip().to_string(), port: at.port() };
    let mut config = Config::in_memory(Role::Follower, "newcomer", &several.folder("newcomer"));
    config.bootstrap = vec![to.clone()];
    let key = Some(NodeKey::from_seed(&[91; 32]));
    let newcomer = timeout(HANG, Node::start(config, StartParts { key, ..StartParts::default() })).await;
    let newcomer = newcomer.unwrap().unwrap();
    let mut own = newcomer.context().as_follower().unwrap().own.clone();
    timeout(HANG, own.wait_for(|view| view.is_attached())).await.unwrap().unwrap();
    bootstrap.kill().await;
    kept(&newcomer, submit(&newcomer, "hello").await.0).await;
    assert!(newcomer.context().as_follower().unwrap().own.borrow().is_attached());

    // Of another cluster's name it gets nothing.
    let mut config = Config::in_memory(Role::Validator, "stranger", &several.folder("stranger"));
    config.cluster_id = "elsewhere".into();
    config.supers = several.addresses();
    let parts = StartParts { key: Some(NodeKey::from_seed(&[92; 32])), ..StartParts::default() };
    let start = Box::pin(Node::start(config, parts));
    assert!(timeout(Duration::from_secs(2), start).await.is_err(), "it waits for its own cluster");
    stop_all(several, validators, vec![newcomer]).await;
}

/// `kill -9` of whoever is drawn, under load: no sealed record is lost, none is sealed twice, and all catch up by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_under_load_nothing_sealed_is_lost_or_sealed_twice() {
    let (mut several, mut validators) = lab(3, 4).await;
    let steady = several.follower(1).await;
    kept(&steady, submit(&steady, "before").await.0).await;
    let mut all = Vec::new();
    for kill in 0..8 {
        for number in 0..3 {
            all.push(submit(&steady, &format!("{kill} {number}")).await);
        }
        if kill % 2 == 0 {
            let one = &mut validators[kill / 2];
            one.node.take().unwrap().kill().await;
            all.push(submit(&steady, &format!("{kill} while it is dead")).await);
            one.start().await;
            attached(one, 3).await;
        } else {
            let (at, _) = several.leading().await;
            several.kill(at).await;
            all.push(submit(&steady, &format!("{kill} while it is dead")).await);
            several.start(at).await;
        }
    }
    let mut places = BTreeMap::new();
    for (digest, sequence) in &all {
        assert_eq!(places.insert(*sequence, *digest), None, "two records have one number");
        for node in validators.iter().map(Signing::node).chain([&steady]) {
            assert_eq!(kept(node, *digest).await.proof.sequence(), *sequence);
        }
    }
    // Between seals nothing is missing: whoever holds all up to the last one holds every record.
    let leader = several.leader().await;
    let ordered = leader.read(|state| state.meta.records.sequence);
    assert_eq!(ordered, all.len() as u64 + 1);
    let store = ready(part(&steady).store.clone()).await;
    assert_eq!(store.figures().unwrap().records, ordered);
    stop_all(several, validators, vec![steady]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_validators_that_come_later() {
    let (several, mut validators) = lab(1, 1).await;
    let follower = several.follower(1).await;
    kept(&follower, submit(&follower, "one").await.0).await;
    for number in 2..=4 {
        validators.push(Signing::start_new(number, &several).await);
    }
    let mut directory = part(&follower).directory;
    let knows = |told: &Option<Arc<Directory>>| told.as_ref().is_some_and(|told| told.validators.set.len() == 4);
    timeout(HANG, directory.wait_for(knows)).await.unwrap().unwrap();
    for one in &validators {
        attached(one, 1).await;
    }
    let found = kept(&follower, submit(&follower, "four").await.0).await;
    assert_eq!((found.proof.certificate.attestation.set_version, found.proof.certificate.signatures.len()), (4, 3));
    stop_all(several, validators, vec![follower]).await;
}

/// The records of a watch that ends, as id and record.
async fn watched(node: &Node, query: &str) -> Vec<(String, Value)> {
    let api = Api::url(&node.rest_address().to_string()).unwrap();
    let route = format!("/v1/records/watch?follow=false{query}");
    let body = timeout(HANG, api.stream(&route)).await.unwrap().unwrap();
    let text = timeout(HANG, body.collect()).await.unwrap().unwrap().to_bytes();
    events(std::str::from_utf8(&text).unwrap())
}

/// The same over gRPC, as another program would read it.
async fn watched_over_grpc(node: &Node, after: &str, author: &str) -> Result<Vec<(String, Value)>, tonic::Status> {
    let mut client = grpc_reader(node).await;
    let request = wire::pb::WatchRequest { after: after.into(), author: author.into(), no_follow: true };
    let mut records = timeout(HANG, client.watch(request)).await.unwrap()?.into_inner();
    let mut found = Vec::new();
    while let Some(told) = timeout(HANG, records.message()).await.unwrap()? {
        found.push((told.id, serde_json::from_str(&told.record).unwrap()));
    }
    Ok(found)
}

async fn grpc_reader(node: &Node) -> wire::pb::records_client::RecordsClient<tonic::transport::Channel> {
    let address = format!("http://{}", node.rest_address());
    let channel = tonic::transport::Endpoint::from_shared(address).unwrap().connect().await.unwrap();
    wire::pb::records_client::RecordsClient::new(channel)
}

fn events(text: &str) -> Vec<(String, Value)> {
    let field =
        |block: &str, name: &str| block.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
    let blocks = text.split("\n\n").filter(|block| block.contains("event: record"));
    blocks
        .map(|block| (field(block, "id:").unwrap(), serde_json::from_str(&field(block, "data:").unwrap()).unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_records_misses_none_and_gets_them_as_they_are_sealed() {
    let (several, validators) = lab(1, 4).await;
    let follower = several.follower(1).await;
    let mut digests = Vec::new();
    for number in 0..5 {
        digests.push(submit(&follower, &format!("{number}")).await.0);
    }
    for digest in &digests {
        for node in [&follower, validators[0].node()] {
            kept(node, *digest).await;
        }
    }
    let all = watched(&follower, "&after=0").await;
    let mut found: Vec<&str> = all.iter().map(|(_, record)| record["digest"].as_str().unwrap()).collect();
    found.sort_unstable();
    let mut expected: Vec<String> = digests.iter().map(ToString::to_string).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(all.iter().all(|(_, record)| record["state"] == "signed" && record["certificate"].is_object()));
    // The same on every node, but that a super has no bodies any more.
    assert_eq!(watched(validators[0].node(), "&after=0").await, all);
    let told = watched(several.supers()[0], "&after=0").await;
    let ids = |all: &[(String, Value)]| all.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&told), ids(&all));
    assert!(told.iter().all(|(_, record)| record["body"].is_null() && record["certificate"].is_object()));
    // Who comes back goes on; who does not say where begins now.
    assert_eq!(watched(&follower, &format!("&after={}", all[1].0)).await, all[2..]);
    assert_eq!(watched(&follower, "").await, []);
    let author = all[0].1["author"].as_str().unwrap();
    assert_eq!(watched(&follower, &format!("&after=0&author={author}")).await, all);
    assert_eq!(watched(&follower, &format!("&after=0&author={}", follower.context().node)).await, []);
    for (node, over_rest) in [(&follower, &all), (validators[0].node(), &all), (several.supers()[0], &told)] {
        let over_grpc = watched_over_grpc(node, "0", author).await.unwrap();
        assert_eq!(&over_grpc, over_rest);
        assert_eq!(watched_over_grpc(node, &all[1].0, "").await.unwrap(), over_rest[2..]);
    }
    let refused = watched_over_grpc(&follower, "soon", "").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(refused.message().contains("`soon` is not the id of a record's event"), "{refused}");
    let api = Api::url(&follower.rest_address().to_string()).unwrap();
    let refused = api.get("/v1/records/watch?after=soon").await.unwrap_err();
    assert!(refused.to_string().contains("`soon` is not the id of a record's event"), "{refused}");

    for node in [&follower, several.supers()[0]] {
        let api = Api::url(&node.rest_address().to_string()).unwrap();
        let mut live = api.stream("/v1/records/watch").await.unwrap();
        let digest = submit(&follower, &format!("live on {}", node.context().name)).await.0;
        let seen = timeout(HANG, async {
            let mut text = String::new();
            loop {
                let frame = live.frame().await.unwrap().unwrap();
                text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
                if let Some((_, record)) = events(&text).first().filter(|_| text.ends_with("\n\n")) {
                    return record["digest"].clone();
                }
            }
        });
        assert_eq!(seen.await.unwrap(), digest.to_string());
    }
    let mut client = grpc_reader(&follower).await;
    let mut live = client.watch(wire::pb::WatchRequest::default()).await.unwrap().into_inner();
    let digest = submit(&follower, "live over gRPC").await.0;
    // What was live on the super may come first: the follower keeps it a moment later.
    while !timeout(HANG, live.message()).await.unwrap().unwrap().unwrap().record.contains(&digest.to_string()) {}
    // REST is not spoken over HTTP/2.
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", follower.rest_address())).unwrap();
    let mut client = wire::pb::keeper_client::KeeperClient::new(channel.connect().await.unwrap());
    let refused = client.fetch(wire::pb::FetchRequest::default()).await.unwrap_err();
    assert_eq!((refused.code(), refused.message().contains("HTTP/1.1")), (tonic::Code::Unimplemented, true));
    stop_all(several, validators, vec![follower]).await;
}
