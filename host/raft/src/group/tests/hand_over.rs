//! The lead goes to another super.

use super::*;

fn code(error: ChangeError) -> String {
    match error {
        ChangeError::Refused { code, .. } => code,
        ChangeError::Group(error) => panic!("{error}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_runs_hands_the_lead_to_whom_it_wants() {
    let (_board, nodes) = group(3).await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    assert_eq!(code(patient(nodes[1].group.hand_over(None)).await.unwrap_err()), "not_leader");
    assert_eq!(code(patient(nodes[0].group.hand_over(Some(key(7)))).await.unwrap_err()), "unknown_member");
    assert_eq!(code(patient(nodes[0].group.hand_over(Some(key(0)))).await.unwrap_err()), "unknown_member");
    for to in [2, 1, 0, 2] {
        let at = leader(&nodes).await;
        let began = tokio::time::Instant::now();
        assert_eq!(patient(nodes[at].group.hand_over(Some(key(to)))).await, Ok(key(to)));
        let mut leadership = nodes[usize::from(to)].group.leadership();
        patient(leadership.wait_for(|now| now.ready)).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(300), "by no silence: {:?}", began.elapsed());
    }
    let taken = patient(nodes[2].group.hand_over(None)).await.unwrap();
    assert!(taken == key(0) || taken == key(1));
    patient(nodes[2].group.propose(join(1))).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_finds_nobody_leads_on() {
    let (_board, mut nodes) = group(3).await;
    nodes.pop().unwrap().kill().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = *nodes[0].group.leadership().borrow();
    assert_eq!(code(patient(nodes[0].group.hand_over(Some(key(2)))).await.unwrap_err()), "unreachable");
    assert_eq!(*nodes[0].group.leadership().borrow(), before, "nobody was asked");
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    assert_eq!(patient(nodes[0].group.hand_over(None)).await, Ok(key(1)), "who answers may have it");
    let board = Arc::new(Switchboard::default());
    let alone = Node::start(&board, &Home::new(0), true).await;
    assert_eq!(code(patient(alone.group.hand_over(None)).await.unwrap_err()), "alone");
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_and_fails_leaves_the_lead_where_it_was() {
    let (_board, mut nodes) = group(3).await;
    patient(nodes[0].group.propose(join(0))).await.unwrap().unwrap();
    let before = *nodes[0].group.leadership().borrow();
    // It fails at the very moment; nobody has noticed yet.
    nodes.pop().unwrap().kill().await;
    let handed = patient(nodes[0].group.hand_over(Some(key(2)))).await;
    let at = leader(&nodes).await;
    let after = *nodes[at].group.leadership().borrow();
    assert!(after.term > before.term, "{handed:?} {before:?} {after:?}");
    // Whoever leads by then takes commands.
    patient(nodes[0].group.propose(join(1))).await.unwrap().unwrap();
    patient(nodes[1].group.propose(join(2))).await.unwrap().unwrap();
}
