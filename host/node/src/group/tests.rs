//! A group of one on disks in memory.

use kernel::command::{Command, Entry, Ip, Join, Lead, Super};
use kernel::id::{ClusterId, Genesis, LogIndex, ProtocolVersion, Term};
use kernel::settings::Settings;
use kernel::state::State;

use super::*;
use crate::keys::NodeKey;

fn found(id: &str, founder: u8) -> Found {
    let node = NodeKey::from_seed(&[founder; 32]).id();
    Found {
        cluster: ClusterId { id: id.into(), genesis: Genesis([7; 16]) },
        founder: Super { node, name: "super-1".into(), address: "127.0.0.1:7001".into() },
        settings: Settings { joins_round: 100_000, ..Settings::default() },
        now_ms: 0,
    }
}

async fn start(disks: &Disks, found: Found) -> Result<(Group, bool, Tasks), StartError> {
    let store = Arc::new(disks.open(1 << 20).unwrap());
    let tasks = Tasks::new();
    let (group, founded) = alone(disks, store, found, Arc::new(Metrics::new()), &tasks).await?;
    Ok((group, founded, tasks))
}

fn join(seed: u16, group: &Group) -> Command {
    let mut bytes = [9; 32];
    bytes[..2].copy_from_slice(&seed.to_le_bytes());
    Command::Join(Join {
        node: NodeKey::from_seed(&bytes).id(),
        name: String::new(),
        version: ProtocolVersion::OURS,
        software: String::new(),
        ip: Ip::V4([127, 0, 0, 1]),
        port: seed,
        rest: None,
        now_ms: group.now_ms(),
    })
}

async fn end(group: &Group, tasks: &Tasks) {
    tasks.kill();
    group.stopped().cancelled().await;
}

#[tokio::test]
async fn a_group_of_one_founds_once_and_leads_in_a_new_term_at_each_start() {
    let disks = Disks::memory();
    let (group, founded, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    assert!(founded);
    let first = group.leadership().borrow().term;
    let genesis = group.read(|state| state.meta.cluster.clone());
    end(&group, &tasks).await;
    let again = Found { cluster: ClusterId { genesis: Genesis([8; 16]), ..genesis.clone() }, ..found("lab", 1) };
    let (group, founded, tasks) = start(&disks, again).await.unwrap();
    assert!(!founded);
    let second = group.leadership().borrow().term;
    assert!(second > first && first > Term(0), "{first} {second}");
    assert_eq!(group.read(|state| state.meta.cluster.clone()), genesis, "a restart is no founding");
    end(&group, &tasks).await;
}

#[tokio::test]
async fn a_store_of_another_cluster_or_key_is_refused_by_name() {
    let disks = Disks::memory();
    let (group, _, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    end(&group, &tasks).await;
    let error = start(&disks, found("prod", 1)).await.unwrap_err().to_string();
    assert!(error.contains("lab#") && error.contains("cluster.id = \"prod\""), "{error}");
    let error = start(&disks, found("lab", 2)).await.unwrap_err();
    assert!(matches!(error, StartError::OtherKey { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_kill_in_the_middle_of_a_burst() {
    let disks = Disks::memory();
    let (group, _, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    let mut burst = tokio::task::JoinSet::new();
    for seed in 0..2_000 {
        let group = group.clone();
        burst.spawn(async move {
            let command = join(seed, &group);
            let Command::Join(Join { node, .. }) = &command else { unreachable!() };
            let node = *node;
            matches!(group.propose(command).await, Ok(Ok(_))).then_some(node)
        });
    }
    let mut acknowledged = Vec::new();
    while let Some(done) = burst.join_next().await {
        if let Some(node) = done.unwrap() {
            acknowledged.push(node);
            if acknowledged.len() == 500 {
                tasks.kill();
            }
        }
    }
    group.stopped().cancelled().await;
    let (again, _, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    assert!(acknowledged.len() >= 500);
    again.read(|state| {
        assert!(acknowledged.iter().all(|node| state.members.contains_key(node)));
    });
    end(&again, &tasks).await;
}

#[tokio::test]
async fn a_commit_that_fails_ends_the_node_with_a_message() {
    let disks = Disks::memory();
    let (group, _, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    let _other = disks.open(1 << 20).unwrap();
    assert_eq!(group.propose(join(1, &group)).await, Err(GroupError::Stopped));
    group.read(|state| {
        assert!(state.members.is_empty(), "nobody reads what is not on disk");
        assert_eq!(state.meta.cluster.id, "lab", "and what is there stays readable");
    });
    let why = tasks.failed().await;
    assert!(why.starts_with("a commit failed"), "{why}");
    assert_eq!(group.propose(join(2, &group)).await, Err(GroupError::Stopped));
}

#[tokio::test]
async fn a_draining_group_answers_what_was_proposed_before() {
    let disks = Disks::memory();
    let (group, _, tasks) = start(&disks, found("lab", 1)).await.unwrap();
    let applied = group.applied();
    assert!(group.propose(join(1, &group)).await.unwrap().is_ok());
    assert!(applied.has_changed().unwrap());
    assert!(tasks.drain(Duration::from_secs(60)).await);
    group.stopped().cancelled().await;
    assert_eq!(group.propose(join(2, &group)).await, Err(GroupError::Stopped));
}

#[tokio::test]
async fn a_folder_of_a_release_without_a_log_goes_on_as_a_group_of_one() {
    let disks = Disks::memory();
    let founding = found("lab", 1);
    {
        let (store, mut state) = (disks.open(1 << 20).unwrap(), State::default());
        let lead = Command::Lead(Lead { term: Term(7), leader: founding.founder.node, now_ms: 6 });
        for (command, index) in [Command::Found(Box::new(founding.clone())), lead].into_iter().zip(1..) {
            let outcome = state.apply(LogIndex(index), &command);
            store.commit(&[Entry { index: LogIndex(index), command }], &outcome.writes).unwrap();
        }
    }
    let (group, founded, tasks) = start(&disks, founding).await.unwrap();
    assert!(!founded);
    assert!(group.leadership().borrow().term > Term(7));
    assert!(group.propose(join(1, &group)).await.unwrap().is_ok());
    end(&group, &tasks).await;
}
