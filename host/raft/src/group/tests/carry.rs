//! A group of three carries on.

use super::*;

#[tokio::test(start_paused = true)]
async fn commands_on_any_super_reach_all() {
    let (board, nodes) = group(3).await;
    for (n, node) in (0..).zip(&nodes) {
        assert_eq!(patient(node.group.propose(join(n))).await.unwrap(), Ok(Reply::Joined { new: true }));
    }
    let answers = patient(nodes[2].group.propose_many((0..50).map(join).collect())).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Ok(Reply::Joined { .. })))), "{answers:?}");
    for node in &nodes {
        node.has(50).await;
    }
    // The leader's clock counts, not that of who handed it in.
    let stamp = nodes[0].group.read(|state| state.meta.stamp_ms);
    assert!(stamp > 1_000_000_000_000, "{stamp}");
    // A heartbeat never waits behind entries.
    assert!(board.count(key(1), Lane::Heartbeats) > 0 && board.count(key(1), Lane::Appends) > 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_leader_alone_may_propose_is_handed_on_by_nobody() {
    let (_board, nodes) = group(2).await;
    let lead = kernel::command::Lead { term: kernel::id::Term(99), leader: key(1), now_ms: 1 };
    let answer =
        tokio::time::timeout(Duration::from_secs(60), nodes[1].group.propose(kernel::command::Command::Lead(lead)));
    assert_eq!(answer.await.unwrap(), Err(GroupError::NoLeader));
    assert!(nodes[0].group.read(|state| state.meta.term.0) < 99);
}

#[tokio::test(start_paused = true)]
async fn another_leads_when_the_leader_is_killed_and_nothing_acknowledged_is_lost() {
    let (board, mut nodes) = group(3).await;
    for n in 0..20 {
        patient(nodes[0].group.propose(join(n))).await.unwrap().unwrap();
    }
    let before = *nodes[0].group.leadership().borrow();
    let home = nodes.remove(0).kill().await;
    // A command that comes meanwhile is kept until somebody leads.
    let during = patient(nodes[0].group.propose(join(20))).await;
    assert!(matches!(during, Ok(Ok(_)) | Err(GroupError::Unknown)), "{during:?}");
    let at = leader(&nodes).await;
    let now = *nodes[at].group.leadership().borrow();
    assert!(now.term > before.term, "{before:?} {now:?}");
    patient(nodes[at].group.propose(join(21))).await.unwrap().unwrap();
    patient(nodes[1 - at].group.propose(join(20))).await.unwrap().unwrap();
    for node in &nodes {
        node.has(22).await;
    }
    // It comes back as a follower and learns what it missed.
    let back = Node::start(&board, &home, false).await;
    back.has(22).await;
    let digests: Vec<_> =
        nodes.iter().chain([&back]).map(|node| node.group.read(|state| state.members.clone())).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_commits_nothing_and_answers_no_linearizable_read() {
    let (board, nodes) = group(3).await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    nodes[0].isolate();
    let lost = tokio::spawn({
        let group = nodes[0].group.clone();
        async move { group.propose(join(1)).await }
    });
    assert_eq!(patient(nodes[0].group.linearizable()).await, Err(GroupError::NoLeader));
    // Local reads are there, and old.
    assert_eq!(nodes[0].members(), 1);
    let rest = &nodes[1..];
    let at = leader(rest).await;
    patient(rest[at].group.propose(join(2))).await.unwrap().unwrap();
    let unknown = patient(lost).await.unwrap();
    assert!(matches!(unknown, Err(GroupError::Unknown | GroupError::NoLeader)), "{unknown:?}");
    board.heal();
    nodes[0].has(2).await;
    let mut leadership = nodes[0].group.leadership();
    patient(leadership.wait_for(|now| !now.ready && now.leader.is_some())).await.unwrap();
    // A follower's linearizable read has what the leader acknowledged before it.
    patient(rest[at].group.propose(join(3))).await.unwrap().unwrap();
    patient(nodes[0].group.linearizable()).await.unwrap();
    assert_eq!(nodes[0].members(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_hands_the_lead_on() {
    let (board, mut nodes) = group(3).await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    let began = tokio::time::Instant::now();
    let home = nodes.remove(0).stop().await;
    let at = leader(&nodes).await;
    let took = began.elapsed();
    assert!(took < Duration::from_millis(300), "nobody had to wait for silence: {took:?}");
    patient(nodes[at].group.propose(join(1))).await.unwrap().unwrap();
    let back = Node::start(&board, &home, false).await;
    back.has(2).await;
}

#[tokio::test(start_paused = true)]
async fn who_was_away_for_long_gets_a_snapshot() {
    let board = Arc::new(Switchboard::default());
    let little = Keeping { snapshot: 40, behind: 10, purged: 1, ..Keeping::default() };
    let mut nodes = Vec::new();
    for n in 0..3 {
        nodes.push(Node::with(&board, &Home::new(n), n == 0, |parts| parts.keeping = little).await);
    }
    enter(&nodes[0], &nodes[1]).await;
    enter(&nodes[0], &nodes[2]).await;
    let home = nodes.pop().unwrap().kill().await;
    for n in 0..300 {
        patient(nodes[0].group.propose(join(n))).await.unwrap().unwrap();
    }
    let back = Node::with(&board, &home, false, |parts| parts.keeping = little).await;
    back.has(300).await;
    assert!(board.count(key(2), Lane::Snapshots) > 0, "it came as a whole");
    patient(back.group.propose(join(300))).await.unwrap().unwrap();
    back.has(301).await;
}
