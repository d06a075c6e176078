//! Leaders that are heard and hear nobody in time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_answered_too_late_gives_way_to_one_that_is_not() {
    let (board, nodes) = group(3).await;
    let slow = leader(&nodes).await;
    let term = nodes[slow].group.leadership().borrow().term;
    // Longer than between two signs of life, shorter than any silence: the others hear it, and would wait for it for ever.
    board.lag(nodes[slow].key(), Duration::from_millis(100));
    let other = (slow + 1) % 3;
    let mut leadership = nodes[other].group.leadership();
    let next = patient(leadership.wait_for(|now| now.term > term && now.leader.is_some())).await.unwrap().leader;
    assert_ne!(next, Some(nodes[slow].key()));
    patient(nodes[other].group.propose(join(7))).await.unwrap().unwrap();
    // The slow one follows, and what it hands in counts.
    patient(nodes[slow].has(1)).await;
    patient(nodes[slow].group.propose(join(8))).await.unwrap().unwrap();
    let settled = nodes[other].group.leadership().borrow().term;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(nodes[other].group.leadership().borrow().term, settled, "a leader that is answered stays");
}
