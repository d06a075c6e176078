//! A group of one.

use kernel::command::{Command, Entry, Found, Lead, Super};
use kernel::id::{LogIndex, Term};
use kernel::settings::Settings;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_founder_leads_at_once_and_a_restart_is_another_term() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(0), true).await;
    let first = *node.group.leadership().borrow();
    assert!(first.ready && first.leader == Some(key(0)), "{first:?}");
    assert_eq!(node.group.read(|state| state.meta.leader), Some(key(0)));
    assert_eq!(patient(node.group.propose(join(1))).await.unwrap(), Ok(Reply::Joined { new: true }));
    assert_eq!(node.members(), 1);
    let home = node.kill().await;
    let node = Node::start(&board, &home, false).await;
    let again = *node.group.leadership().borrow();
    assert!(again.ready && again.term > first.term, "{first:?} {again:?}");
    assert_eq!(node.members(), 1);
    assert_eq!(node.group.replica(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn many_commands_are_answered_in_their_order() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(0), true).await;
    let mut commands: Vec<_> = (0..100).map(join).collect();
    commands.push(join(0));
    let answers = patient(node.group.propose_many(commands)).await;
    let new = answers.iter().filter(|answer| **answer == Ok(Ok(Reply::Joined { new: true }))).count();
    assert_eq!((new, answers.len()), (100, 101));
    assert_eq!(answers.last(), Some(&Ok(Ok(Reply::Joined { new: false }))));
    let index = patient(node.group.linearizable()).await.unwrap();
    assert!(index >= node.group.read(|state| state.meta.applied));
}

#[tokio::test(start_paused = true)]
async fn an_empty_super_that_may_not_found_waits_and_says_so() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(3), false).await;
    assert_eq!(node.group.propose(join(1)).await, Err(GroupError::NotInGroup));
    assert_eq!(node.group.linearizable().await, Err(GroupError::NotInGroup));
    assert_eq!((node.group.replica(), node.group.members()), (None, Err(GroupError::NotInGroup)));
    let joined = tokio::time::timeout(Duration::from_secs(5), node.group.joined()).await;
    assert!(joined.is_err(), "nobody added it");
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn files_of_another_cluster_or_key_are_refused() {
    let board = Arc::new(Switchboard::default());
    let home = Node::start(&board, &Home::new(0), true).await.stop().await;
    let line = || Arc::new(rig::Line { me: key(0), board: Arc::clone(&board) });
    let mut other = parts(&home, line(), true);
    other.found.cluster.id = "field".into();
    assert!(matches!(Group::open(other).await, Err(StartError::OtherCluster { .. })));
    let mut other = parts(&home, line(), true);
    other.key = key(1);
    let error = Group::open(other).await.unwrap_err();
    assert!(matches!(error, StartError::OtherKey { found, ours } if (found, ours) == (key(0), key(1))), "{error}");
}

#[tokio::test(start_paused = true)]
async fn commands_after_the_end_are_told_so() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(0), true).await;
    let group = node.group.clone();
    node.stop().await;
    assert!(group.stopped().is_cancelled());
    assert_eq!(group.propose(join(1)).await, Err(GroupError::Stopped));
    assert!(!group.leadership().borrow().ready);
}

#[tokio::test(start_paused = true)]
async fn commands_that_wait_when_the_core_ends_are_all_told_so() {
    let mut stopped = 0;
    // It ends at another moment each time: some find it with commands that wait.
    for turns in 0..20 {
        let board = Arc::new(Switchboard::default());
        let node = Node::start(&board, &Home::new(0), true).await;
        let group = node.group.clone();
        let asked = tokio::spawn(async move { group.propose_many((0..50).map(join).collect()).await });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        node.kill().await;
        let answers = patient(asked).await.expect("no panic");
        assert_eq!(answers.len(), 50);
        stopped += answers.iter().filter(|answer| answer.is_err()).count();
    }
    assert!(stopped > 0, "nothing waited when the core ended");
}

#[tokio::test(start_paused = true)]
async fn a_state_of_a_release_without_a_log_goes_on() {
    let home = Home::new(0);
    {
        let store = store::Store::open(&home.state, 64 << 20).unwrap();
        let mut state = kernel::state::State::default();
        let founder = Super { node: key(0), name: "super-0".into(), address: home.address() };
        let found = Found { cluster: rig::cluster(), founder, settings: Settings::default(), now_ms: 5 };
        let lead = Lead { term: Term(7), leader: key(0), now_ms: 6 };
        let commands = [Command::Found(Box::new(found)), Command::Lead(lead), join(0), join(1)];
        for (command, index) in commands.into_iter().zip(1..) {
            let outcome = state.apply(LogIndex(index), &command);
            store.commit(&[Entry { index: LogIndex(index), command }], &outcome.writes).unwrap();
        }
    }
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &home, false).await;
    let leadership = *node.group.leadership().borrow();
    assert!(leadership.ready && leadership.term > Term(7), "{leadership:?}");
    assert_eq!((node.members(), node.group.replica()), (2, Some(0)));
    patient(node.group.propose(join(2))).await.unwrap().unwrap();
    // And it grows as any other group.
    let second = Node::start(&board, &Home::new(1), false).await;
    enter(&node, &second).await;
    second.has(3).await;
}

/// Puts members into a log that nobody has open, as an entry that was appended and never applied.
fn append(home: &Home, voters: Vec<Vec<u64>>, others: &[u8]) {
    let (log, head) = store::LogFile::open(&home.log).unwrap();
    let last = head.last.unwrap();
    let replica = |n: u8| store::Replica { key: key(n), address: Home::new(n).address(), name: String::new() };
    let replicas = [(0, replica(0))].into_iter().chain(others.iter().map(|n| (u64::from(*n), replica(*n)))).collect();
    let place = store::Place { term: last.term, index: last.index + 1 };
    let entry = store::Logged { place, payload: store::Payload::Membership(store::Membership { voters, replicas }) };
    let change = store::LogChange::Append(vec![(place.index, entry.to_bytes().unwrap())]);
    log.write(&[change], None, Some(place)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_founder_whose_log_has_others_that_its_state_does_not_know_waits_for_them() {
    for voters in [vec![vec![0], vec![0, 1, 2]], vec![vec![0, 1, 2]]] {
        let board = Arc::new(Switchboard::default());
        let home = Node::start(&board, &Home::new(0), true).await.kill().await;
        append(&home, voters, &[1, 2]);
        let began = tokio::time::Instant::now();
        let node = Node::start(&board, &home, true).await;
        assert!(began.elapsed() < Duration::from_secs(1), "it opened without the others: {:?}", began.elapsed());
        let mut leadership = node.group.leadership();
        let leads = tokio::time::timeout(Duration::from_secs(60), leadership.wait_for(|now| now.ready));
        assert!(leads.await.is_err(), "no majority is there");
        node.kill().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_only_voter_leads_at_once_whoever_listens() {
    let board = Arc::new(Switchboard::default());
    let home = Node::start(&board, &Home::new(0), true).await.kill().await;
    append(&home, vec![vec![0]], &[1]);
    let node = Node::start(&board, &home, false).await;
    assert!(node.group.leadership().borrow().ready, "a learner is not waited for");
    patient(node.group.propose(join(0))).await.unwrap().unwrap();
    let home = node.kill().await;
    let node = Node::start(&board, &home, false).await;
    assert!(node.group.leadership().borrow().ready, "nor where the state knows of it");
}
