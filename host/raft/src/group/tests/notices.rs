//! Who is told what happens.

use kernel::outcome::Notice;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

/// What was told so far.
fn told(notices: &mut Receiver<Arc<Notice>>) -> Vec<Notice> {
    let mut all = Vec::new();
    loop {
        match notices.try_recv() {
            Ok(notice) => all.push((*notice).clone()),
            Err(TryRecvError::Empty) => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn propose(node: &Node, members: std::ops::Range<u16>) {
    for n in members {
        patient(node.group.propose(join(n))).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn each_super_tells_each_notice_once_and_none_that_is_old() {
    let (board, mut nodes) = group(3).await;
    let mut all: Vec<_> = nodes.iter().map(|node| node.group.notices()).collect();
    propose(&nodes[0], 0..20).await;
    for node in &nodes {
        node.has(20).await;
    }
    let first = told(&mut all[0]);
    assert!(first.len() >= 20, "{first:?}");
    assert_eq!((told(&mut all[1]), told(&mut all[2])), (first.clone(), first));
    // It misses some, and comes back within the same term.
    let home = nodes.pop().unwrap().kill().await;
    propose(&nodes[0], 20..40).await;
    let back = Node::start(&board, &home, false).await;
    all[2] = back.group.notices();
    back.has(40).await;
    assert_eq!(told(&mut all[2]), [], "all that is old");
    nodes.push(back);
    propose(&nodes[0], 40..60).await;
    for node in &nodes {
        node.has(60).await;
    }
    let (second, third) = (told(&mut all[1]), told(&mut all[2]));
    assert_eq!(told(&mut all[0]), second);
    assert!(third.len() >= 20 && second.ends_with(&third), "{third:?}");
    // And under another leader.
    patient(nodes[0].group.hand_over(Some(key(1)))).await.unwrap();
    let mut leadership = nodes[1].group.leadership();
    patient(leadership.wait_for(|now| now.ready)).await.unwrap();
    propose(&nodes[0], 60..80).await;
    for node in &nodes {
        node.has(80).await;
    }
    let by_leader = told(&mut all[1]);
    assert!(by_leader.len() >= 20, "{by_leader:?}");
    assert_eq!((told(&mut all[0]), told(&mut all[2])), (by_leader.clone(), by_leader));
}

#[tokio::test(start_paused = true)]
async fn a_super_that_was_cut_off_tells_late_what_it_missed_of_the_present_term_only() {
    let (board, nodes) = group(3).await;
    let mut notices = nodes[2].group.notices();
    nodes[2].isolate();
    propose(&nodes[0], 0..10).await;
    patient(nodes[0].group.hand_over(Some(key(1)))).await.unwrap();
    let mut leadership = nodes[1].group.leadership();
    patient(leadership.wait_for(|now| now.ready)).await.unwrap();
    let mut of_leader = nodes[1].group.notices();
    propose(&nodes[1], 10..20).await;
    board.heal();
    nodes[2].has(20).await;
    let late = told(&mut notices);
    assert!(told(&mut of_leader).iter().filter(|notice| late.contains(notice)).count() <= late.len());
    assert!(late.len() < 20, "those of the earlier term are old: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_group_of_one_tells_nothing_of_before_its_start() {
    let board = Arc::new(Switchboard::default());
    let node = Node::start(&board, &Home::new(0), true).await;
    let mut notices = node.group.notices();
    propose(&node, 0..5).await;
    assert!(told(&mut notices).len() >= 5);
    let home = node.kill().await;
    let node = Node::start(&board, &home, false).await;
    let mut notices = node.group.notices();
    propose(&node, 5..6).await;
    let new = told(&mut notices);
    let first = told(&mut notices);
    assert!(!new.is_empty() && first.is_empty());
}
