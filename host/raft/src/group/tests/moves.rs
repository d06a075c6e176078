//! Supers that go on at another address.

use super::*;
use crate::Member;

fn refused(error: ChangeError) -> (String, String) {
    match error {
        ChangeError::Refused { code, detail } => (code, detail),
        ChangeError::Group(error) => panic!("{error}"),
    }
}

fn at(node: &Node, key: kernel::id::NodeId) -> Member {
    node.group.members().unwrap().into_iter().find(|member| member.key == key).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_super_that_moved_with_its_disk_is_the_same_replica() {
    let (board, mut nodes) = group(3).await;
    let before = at(&nodes[0], key(2));
    let mut home = nodes.pop().unwrap().kill().await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    home.host = "elsewhere:7001".into();
    let moved = Node::start(&board, &home, false).await;
    let to = at(&nodes[0], nodes[0].key());
    assert!(to.leader);
    // Any super takes the operator's word.
    let id = patient(nodes[1].group.add(key(2), home.address())).await.unwrap();
    assert_eq!(id, before.replica);
    moved.has(1).await;
    let after = at(&nodes[0], key(2));
    assert_eq!((after.replica, after.voter, after.seat), (before.replica, true, before.seat));
    assert_eq!(after.address, "elsewhere:7001");
    for node in nodes.iter().chain([&moved]) {
        patient(node.group.linearizable()).await.unwrap();
        let seat = node.group.read(|state| state.meta.seats[2].holder.clone());
        assert_eq!((seat.address.as_str(), seat.name.as_str()), ("elsewhere:7001", "super-2"));
    }
    // Its vote counts where it is now.
    nodes.remove(0).kill().await;
    patient(nodes[0].group.propose(join(1))).await.unwrap().unwrap();
    moved.has(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_super_that_is_alone_may_move() {
    let board = Arc::new(Switchboard::default());
    let mut home = Node::start(&board, &Home::new(0), true).await.stop().await;
    home.host = "elsewhere:7001".into();
    let node = Node::start(&board, &home, false).await;
    let (code, detail) = refused(patient(node.group.add(key(0), "nowhere:7001".into())).await.unwrap_err());
    assert_eq!(code, "already_member", "{detail}");
    assert!(detail.contains("reached at elsewhere:7001"), "{detail}");
    assert_eq!(patient(node.group.add(key(0), home.address())).await, Ok(0));
    assert_eq!(at(&node, key(0)).address, "elsewhere:7001");
    assert_eq!(node.group.read(|state| state.meta.seats[0].holder.address.clone()), "elsewhere:7001");
}

#[tokio::test(start_paused = true)]
async fn only_the_replica_itself_moves_its_address() {
    let (board, mut nodes) = group(3).await;
    let id = nodes[2].group.replica().unwrap();
    let empty = Home { host: "elsewhere:7001".into(), ..Home::new(2) };
    let other = Node::start(&board, &empty, false).await;
    let (code, detail) = refused(patient(nodes[0].group.add(key(2), empty.address())).await.unwrap_err());
    assert_eq!(code, "already_member", "{detail}");
    assert!(detail.contains("elsewhere:7001: this super is empty"), "{detail}");
    assert_eq!(other.group.replica(), None, "it stays empty");
    // As with a copy of its disk.
    let cluster = rig::cluster();
    let invite = wire::raft::Invite { cluster, replica: id, known: false };
    other.group.inner.invited(crate::Caller(key(0)), &invite).await.unwrap();
    let (code, detail) = refused(patient(nodes[0].group.add(key(2), empty.address())).await.unwrap_err());
    assert_eq!(code, "twice", "{detail}");
    assert!(detail.contains(&format!("replica {id}, at super-2:7001 and at elsewhere:7001")), "{detail}");
    assert_eq!(at(&nodes[0], key(2)).address, "super-2:7001");
    // One that lost its disk and moved is another replica.
    other.kill().await;
    nodes.pop().unwrap().kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let lost = Node::start(&board, &Home { host: "elsewhere:7001".into(), ..Home::new(2) }, false).await;
    assert!(patient(nodes[0].group.add(key(2), lost.home.address())).await.unwrap() > id);
}

#[tokio::test(start_paused = true)]
async fn an_address_needs_a_majority_that_answers() {
    let (board, mut nodes) = group(4).await;
    let mut home = nodes.pop().unwrap().kill().await;
    nodes.pop().unwrap().kill().await;
    nodes.pop().unwrap().kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    home.host = "elsewhere:7001".into();
    let _moved = Node::start(&board, &home, false).await;
    let (code, detail) = refused(patient(nodes[0].group.add(key(3), home.address())).await.unwrap_err());
    assert_eq!(
        (code.as_str(), detail.starts_with("2 of 4 voters answer now, 3 are needed")),
        ("quorum", true),
        "{detail}"
    );
}
