//! Who belongs to the group.

use openraft::async_runtime::WatchReceiver as _;

use super::*;
use crate::Connector as _;

fn refused(error: ChangeError) -> (String, String) {
    match error {
        ChangeError::Refused { code, detail } => (code, detail),
        ChangeError::Group(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_super_is_added_promoted_and_removed() {
    let board = Arc::new(Switchboard::default());
    let (first, second) =
        (Node::start(&board, &Home::new(0), true).await, Node::start(&board, &Home::new(1), false).await);
    patient(first.group.propose(join(0))).await.unwrap().unwrap();
    let (code, detail) = refused(patient(first.group.promote(key(1))).await.unwrap_err());
    assert_eq!(code, "unknown_member", "{detail}");
    let id = patient(first.group.add(key(1), second.home.address())).await.unwrap();
    second.has(1).await;
    assert_eq!(second.group.replica(), Some(id));
    let (code, _) = refused(patient(first.group.add(key(1), second.home.address())).await.unwrap_err());
    assert_eq!(code, "already_member");
    promote(&first, key(1)).await;
    let members = first.group.members().unwrap();
    let seats: Vec<_> =
        members.iter().map(|member| (member.replica, member.voter, member.seat.map(|seat| seat.0))).collect();
    assert_eq!(seats, [(0, true, Some(0)), (id, true, Some(1))]);
    assert_eq!(members.iter().filter(|member| member.leader).count(), 1);
    // Each told its name when it was invited.
    for node in [&first, &second] {
        node.group.linearizable().await.unwrap();
        let names: Vec<_> =
            node.group.read(|state| state.meta.seats.iter().map(|row| row.holder.name.clone()).collect());
        assert_eq!(names, ["super-0", "super-1"]);
    }
    // Any super takes the operator's word.
    patient(second.group.propose(join(1))).await.unwrap().unwrap();
    assert_eq!(patient(second.group.remove(key(1))).await.unwrap(), id);
    assert_eq!(first.group.members().unwrap().len(), 1);
    let (code, detail) = refused(patient(first.group.remove(key(0))).await.unwrap_err());
    assert_eq!((code.as_str(), detail.starts_with("0 of 0")), ("quorum", true), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_would_lose_the_quorum_is_refused_with_the_numbers() {
    let (_board, mut nodes) = group(3).await;
    nodes.pop().unwrap().kill().await;
    // Until its silence has been noticed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let at = leader(&nodes).await;
    let (code, detail) = refused(patient(nodes[at].group.remove(key(1))).await.unwrap_err());
    assert_eq!(
        (code.as_str(), detail.as_str()),
        ("quorum", "1 of 2 voters would remain reachable, 2 are needed; bring one back first")
    );
    // Who is silent may go.
    patient(nodes[at].group.remove(key(2))).await.unwrap();
    assert_eq!(nodes[at].group.members().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_lost_its_disk_comes_back_as_another_replica() {
    let (board, mut nodes) = group(3).await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    let old = nodes[2].group.replica().unwrap();
    nodes.pop().unwrap().kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let empty = Node::start(&board, &Home::new(2), false).await;
    // It does not take what is meant for the replica that it was.
    assert!(tokio::time::timeout(Duration::from_secs(5), empty.group.joined()).await.is_err());
    enter(&nodes[0], &empty).await;
    let new = empty.group.replica().unwrap();
    assert!(new > old, "{old} {new}");
    assert_eq!(patient(nodes[0].group.remove(key(2))).await.unwrap(), old, "the older one goes");
    let members = nodes[0].group.members().unwrap();
    assert_eq!(members.iter().filter(|member| member.voter).count(), 3);
    patient(empty.group.propose(join(1))).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_joins_who_does_not_want_to() {
    let board = Arc::new(Switchboard::default());
    let first = Node::start(&board, &Home::new(0), true).await;
    let (code, detail) = refused(patient(first.group.add(key(5), "super-5:7001".into())).await.unwrap_err());
    assert_eq!(code, "unreachable", "{detail}");
    let other = Node::with(&board, &Home::new(1), false, |parts| parts.found.cluster.id = "field".into()).await;
    let (code, detail) = refused(patient(first.group.add(key(1), other.home.address())).await.unwrap_err());
    assert_eq!(code, "invitation", "{detail}");
    assert!(detail.contains("field") && detail.contains("lab#"), "{detail}");
    let strange = Node::with(&board, &Home::new(2), false, |parts| parts.roster = Arc::new(rig::Told::default())).await;
    let (code, detail) = refused(patient(first.group.add(key(2), strange.home.address())).await.unwrap_err());
    assert_eq!(code, "invitation", "{detail}");
    let founder = Node::start(&board, &Home::new(3), true).await;
    let (code, detail) = refused(patient(first.group.add(key(3), founder.home.address())).await.unwrap_err());
    assert_eq!(code, "invitation", "{detail}");
    assert_eq!(first.group.members().unwrap().len(), 1);
}

/// What a replica says to a vote that somebody asks for.
async fn asked(board: &Arc<Switchboard>, by: u8, of: &Node, from: u64, to: u64) -> Result<bool, tonic::Code> {
    let line = rig::Line { me: key(by), board: Arc::clone(board) };
    let replica = store::Replica { key: of.key(), address: of.home.address(), name: String::new() };
    let mut io = Some(patient(line.connect(&replica, Lane::Calls)).await.unwrap());
    let once = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let io = io.take();
        async move { io.map(hyper_util::rt::TokioIo::new).ok_or(std::io::Error::other("once")) }
    });
    let channel = tonic::transport::Endpoint::from_static("http://x").connect_with_connector(once).await.unwrap();
    let vote = wire::raft::Vote { term: 99, replica: from, committed: false };
    let request = wire::raft::VoteRequest { route: wire::raft::Route { from, to }, vote, last: None, hand_over: true };
    let request = wire::raft::convert::vote_request_pb(request);
    let answer = wire::pb::raft_client::RaftClient::new(channel).vote(request).await;
    answer.map(|answer| answer.into_inner().granted).map_err(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn who_is_no_replica_of_the_group_is_refused() {
    let (board, nodes) = group(2).await;
    let second = nodes[1].group.replica().unwrap();
    assert_eq!(asked(&board, 1, &nodes[0], second, 0).await, Ok(false), "it has less of the log");
    assert_eq!(asked(&board, 9, &nodes[0], second, 0).await, Err(tonic::Code::PermissionDenied), "another key");
    assert_eq!(asked(&board, 9, &nodes[0], 77, 0).await, Err(tonic::Code::PermissionDenied), "a replica of nobody");
    assert_eq!(
        asked(&board, 1, &nodes[0], second, 5).await,
        Err(tonic::Code::FailedPrecondition),
        "for another replica"
    );
    let term = nodes[0].group.leadership().borrow().term;
    assert!(term.0 < 99 || !nodes[0].group.leadership().borrow().ready);
    let empty = Node::start(&board, &Home::new(3), false).await;
    assert_eq!(asked(&board, 1, &empty, second, 5).await, Err(tonic::Code::FailedPrecondition), "it was not invited");
    assert_eq!(asked(&board, 9, &empty, second, 5).await, Err(tonic::Code::PermissionDenied));
}

/// Waits until a super leads no more, and has no word in the group that these are.
async fn is_gone(gone: &Node, rest: &[Node]) {
    let mut leadership = gone.group.leadership();
    patient(leadership.wait_for(|now| !now.ready)).await.unwrap();
    let at = leader(rest).await;
    // The state is told who belongs to the group after the change itself.
    let mut applied = rest[at].group.applied();
    patient(async {
        while rest[at].group.read(|state| state.meta.seats.len()) != rest.len() {
            applied.changed().await.unwrap();
        }
    })
    .await;
    patient(rest[at].group.propose(join(40))).await.unwrap().unwrap();
    let (term, index) = (rest[at].group.leadership().borrow().term, rest[at].group.applied().borrow().index);
    // Whoever would go on proposing, or want to lead, has had the time for it.
    tokio::time::sleep(Duration::from_secs(30)).await;
    for node in rest {
        patient(node.group.linearizable()).await.unwrap();
        let meta = node.group.read(|state| state.meta.clone());
        assert_eq!((meta.leader, meta.applied, meta.seats.len()), (Some(rest[at].key()), index, rest.len()));
        assert_eq!(node.group.leadership().borrow().term, term);
        assert!(node.group.members().unwrap().iter().all(|member| member.key != gone.key()));
    }
    let core = gone.group.inner.core().unwrap();
    let own = Arc::new(join(41));
    assert_eq!(gone.group.inner.propose_here(core, &own).await, None, "it takes nothing any more");
    assert!(!gone.group.leadership().borrow().ready);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_removed_hands_the_lead_on() {
    for by in [0, 1] {
        let (_board, mut nodes) = group(3).await;
        let gone = nodes[0].group.replica().unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(patient(nodes[by].group.remove(key(0))).await, Ok(gone));
        assert!(began.elapsed() < Duration::from_millis(300), "by no silence: {:?}", began.elapsed());
        is_gone(&nodes.remove(0), &nodes).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_left_the_group_stops_proposing() {
    let (_board, mut nodes) = group(3).await;
    let us = nodes[0].group.replica().unwrap();
    let core = nodes[0].group.inner.core().unwrap();
    let vote = openraft::ChangeMembers::RemoveVoters(std::collections::BTreeSet::from([us]));
    // As a change of this super's own: nobody finishes it in its place.
    let changing = nodes[0].group.inner.changing.lock().await;
    patient(core.raft.change_membership(vote, false)).await.unwrap();
    drop(changing);
    // Others tell the state who belongs to the group now.
    is_gone(&nodes.remove(0), &nodes).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_its_leader_did_not_finish_is_finished_by_the_next_one() {
    let (board, mut nodes) = group(3).await;
    let fourth = Node::start(&board, &Home::new(3), false).await;
    patient(nodes[0].group.add(key(3), fourth.home.address())).await.unwrap();
    patient(fourth.group.joined()).await.unwrap();
    let steps = |node: &Node| {
        let core = node.group.inner.core().unwrap();
        let members = Arc::clone(&core.raft.server_metrics().borrow_watched().membership_config);
        let voters = members.membership().voter_ids().count();
        (members.membership().get_joint_config().len(), voters)
    };
    let between = async {
        let mut metrics = nodes[1].group.inner.core().unwrap().raft.server_metrics();
        while steps(&nodes[1]).0 < 2 {
            metrics.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = promote(&nodes[0], key(3)) => panic!("both steps were seen at once"),
        () = patient(between) => nodes[0].isolate(),
    }
    nodes.push(fourth);
    let gone = nodes.remove(0);
    let at = leader(&nodes).await;
    let mut metrics = nodes[at].group.inner.core().unwrap().raft.server_metrics();
    patient(async {
        while steps(&nodes[at]) != (1, 4) {
            metrics.changed().await.unwrap();
        }
    })
    .await;
    let mut applied = nodes[at].group.applied();
    patient(async {
        while nodes[at].group.read(|state| state.meta.seats.len()) != 4 {
            applied.changed().await.unwrap();
        }
    })
    .await;
    drop(gone);
}
