//! Who is told what happens.

use kernel::command::{Command, Operate, Operation, Operator};
use kernel::outcome::Notice;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

/// The classes that were told so far.
fn told(notices: &mut Receiver<Arc<Notice>>) -> Vec<u32> {
    let mut all = Vec::new();
    loop {
        match notices.try_recv() {
            Ok(notice) => {
                if let Notice::Changed(change) = &*notice {
                    all.extend(change.to.parse::<u32>());
                }
            }
            Err(TryRecvError::Empty) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A member whose class is set.
async fn founded(node: &Node) {
    patient(node.group.propose(join(0))).await.unwrap().unwrap();
}

/// Sets the member's class to each of these in turn, each of which is told.
async fn set(node: &Node, classes: std::ops::Range<u32>) {
    let Command::Join(member) = join(0) else { panic!("a join") };
    for class in classes {
        let what = Operation::SetClass { node: member.node, class };
        let command = Operate { by: Operator::Token, reason: "a test".into(), now_ms: 1, what };
        patient(node.group.propose(Command::Operate(command))).await.unwrap().unwrap();
    }
}

/// Waits until a super has all that was answered.
async fn caught_up(nodes: &[Node]) {
    for node in nodes {
        patient(node.group.linearizable()).await.unwrap();
    }
}

/// Waits until this one leads.
async fn leads(node: &Node) {
    let mut leadership = node.group.leadership();
    patient(leadership.wait_for(|now| now.ready)).await.unwrap();
}

fn range(classes: std::ops::Range<u32>) -> Vec<u32> {
    classes.collect()
}

#[tokio::test(start_paused = true)]
async fn each_super_tells_each_notice_once_and_none_that_is_old() {
    let (board, mut nodes) = group(3).await;
    founded(&nodes[0]).await;
    caught_up(&nodes).await;
    let mut all: Vec<_> = nodes.iter().map(|node| node.group.notices()).collect();
    set(&nodes[0], 1..20).await;
    caught_up(&nodes).await;
    for notices in &mut all {
        assert_eq!(told(notices), range(1..20));
    }
    // It misses some, and comes back within the same term.
    let home = nodes.pop().unwrap().kill().await;
    set(&nodes[0], 20..40).await;
    let back = Node::start(&board, &home, false).await;
    all[2] = back.group.notices();
    nodes.push(back);
    caught_up(&nodes).await;
    assert_eq!(told(&mut all[2]), [0; 0], "all that is old");
    set(&nodes[0], 40..60).await;
    caught_up(&nodes).await;
    assert_eq!(told(&mut all[0]), range(20..60));
    assert_eq!(told(&mut all[1]), range(20..60));
    assert_eq!(told(&mut all[2]), range(40..60));
    // And under another leader.
    patient(nodes[0].group.hand_over(Some(key(1)))).await.unwrap();
    leads(&nodes[1]).await;
    set(&nodes[0], 60..80).await;
    caught_up(&nodes).await;
    for notices in &mut all {
        assert_eq!(told(notices), range(60..80));
    }
}

#[tokio::test(start_paused = true)]
async fn a_super_that_was_cut_off_tells_late_what_it_missed_of_the_present_term_only() {
    let (board, nodes) = group(3).await;
    founded(&nodes[0]).await;
    caught_up(&nodes).await;
    let mut notices = nodes[2].group.notices();
    // Within a term.
    nodes[2].isolate();
    set(&nodes[0], 1..10).await;
    board.heal();
    caught_up(&nodes).await;
    assert_eq!(told(&mut notices), range(1..10));
    // Over a change of leader.
    nodes[2].isolate();
    set(&nodes[0], 10..20).await;
    patient(nodes[0].group.hand_over(Some(key(1)))).await.unwrap();
    leads(&nodes[1]).await;
    board.heal();
    caught_up(&nodes).await;
    set(&nodes[1], 20..30).await;
    caught_up(&nodes).await;
    assert_eq!(told(&mut notices), range(20..30), "what the earlier leader left is old");
}

#[tokio::test(start_paused = true)]
async fn a_group_of_one_tells_nothing_of_before_its_start() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(0), true).await;
    founded(&node).await;
    let mut notices = node.group.notices();
    set(&node, 1..5).await;
    assert_eq!(told(&mut notices), range(1..5));
    let home = node.kill().await;
    let node = Node::start(&board, &home, false).await;
    let mut notices = node.group.notices();
    set(&node, 5..6).await;
    assert_eq!(told(&mut notices), [5]);
}
