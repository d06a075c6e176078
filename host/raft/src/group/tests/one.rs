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
