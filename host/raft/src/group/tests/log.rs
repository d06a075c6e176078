//! The log within its bytes.

use kernel::command::Command;
use openraft::async_runtime::WatchReceiver as _;

use super::*;

/// One that the kernel refuses, which fills the log all the same.
fn large(n: u16) -> Command {
    let Command::Join(mut join) = join(n) else { panic!("a join") };
    join.name = "n".repeat(8 << 10);
    Command::Join(join)
}

/// Waits until a log has at most so many bytes.
async fn shrinks(node: &Node, most: u64) {
    let core = node.group.inner.core().unwrap();
    let mut metrics = core.raft.data_metrics();
    patient(async {
        while core.machine.log().bytes() > most {
            metrics.changed().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_few_large_entries_do_not_fill_the_disk() {
    const MOST: u64 = 256 << 10;
    let board = Arc::new(Switchboard::default());
    let keeping = Keeping { bytes: MOST, ..Keeping::default() };
    let mut nodes = Vec::new();
    for n in 0..3 {
        nodes.push(Node::with(&board, &Home::new(n), n == 0, |parts| parts.keeping = keeping).await);
    }
    enter(&nodes[0], &nodes[1]).await;
    enter(&nodes[0], &nodes[2]).await;
    let home = nodes.pop().unwrap().kill().await;
    for n in 0..200 {
        assert!(patient(nodes[0].group.propose(large(n))).await.unwrap().is_err());
    }
    patient(nodes[1].group.linearizable()).await.unwrap();
    for node in &nodes {
        shrinks(node, MOST).await;
        let log = node.group.inner.core().unwrap().machine.log().clone();
        assert!(log.bytes() > MOST / 4, "{}: what may be kept is kept", log.bytes());
    }
    // Who needs what is gone gets a snapshot; a start counts again.
    let back = Node::with(&board, &home, false, |parts| parts.keeping = keeping).await;
    patient(nodes[0].group.propose(join(500))).await.unwrap().unwrap();
    back.has(1).await;
    assert!(board.count(key(2), Lane::Snapshots) > 0, "it came as a whole");
    nodes.push(back);
    for n in 200..260 {
        let _refused = patient(nodes[0].group.propose(large(n))).await.unwrap();
    }
    let bytes = {
        shrinks(&nodes[0], MOST).await;
        nodes[0].group.inner.core().unwrap().machine.log().bytes()
    };
    let home = nodes.remove(0).kill().await;
    let (_, head) = store::LogFile::open(&home.log).unwrap();
    assert_eq!(head.sizes.iter().map(|size| u64::from(*size)).sum::<u64>(), bytes);
}
