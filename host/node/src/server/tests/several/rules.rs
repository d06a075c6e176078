//! Rules are changed in a group: staged anywhere, made ready everywhere, shadowed, activated, taken back.

use kernel::command::{Operate, Operation, Operator};
use kernel::decide::FaultKind;
use kernel::outcome::Reject;

use super::*;
use crate::builtin;

/// A ban rule with another config each time; what it decides about those that are up is the same.
fn config(ban_rounds: u64) -> String {
    format!("{{\"ban\":5,\"ban_rounds\":{ban_rounds},\"suspend\":3,\"warn\":2}}")
}

/// A rule that is well until it decides: its self-test is at other rounds.
const MISBEHAVE: &[u8] = include_bytes!("../../../../../../tests/misbehave/misbehave.wasm");

impl Several {
    async fn stage(&self, at: usize, config: &str) -> Digest {
        self.stage_component(at, builtin::of(Slot::Ban).component, config).await
    }

    async fn stage_component(&self, at: usize, component: &[u8], config: &str) -> Digest {
        let context = self.supers[at].node().context().clone();
        let policies = &context.as_super().unwrap().policies;
        let component = component.into();
        policies.bring_in(Slot::Ban, component, config, Operator::Socket).await.unwrap().unwrap().policy
    }

    async fn decide(&self, what: Operation) -> Result<Reply, Reject> {
        let group = self.leader().await;
        let operate = Operate { by: Operator::Socket, reason: "test".into(), now_ms: group.now_ms(), what };
        group.propose(Command::Operate(operate)).await.unwrap()
    }
}

fn ready(state: &State, policy: &Digest) -> usize {
    state.policies.get(policy).map_or(0, |row| row.ready.len())
}

fn decides(state: &State, policy: Digest) -> bool {
    state.slot(Slot::Ban).row.active == Some(policy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_changes_although_a_super_is_dead_and_comes_back_without_its_compiled_code() {
    let mut several = Several::of(3, 1_000).await;
    let followers = several.followers(3).await;
    let leader = several.leader().await;
    until(&leader, |state| all_up(state, 3)).await;
    let (at, _) = several.leading().await;
    let (staged_at, dies) = ((at + 1) % 3, (at + 2) % 3);
    let first = leader.read(|state| state.slot(Slot::Ban).row.active.unwrap());

    // Any super takes it, and all of them make it ready.
    let shadowed = several.stage(staged_at, &config(61)).await;
    until(&leader, |state| ready(state, &shadowed) == 3).await;
    several.decide(Operation::Shadow { slot: Slot::Ban, policy: Some(shadowed) }).await.unwrap();

    several.kill(dies).await;
    let policy = several.stage(staged_at, &config(62)).await;
    until(&leader, |state| ready(state, &policy) == 2).await;
    let Reply::From { round, memory_empty } =
        several.decide(Operation::Activate { slot: Slot::Ban, policy, round: None }).await.unwrap()
    else {
        panic!("not activated")
    };
    assert_eq!(memory_empty, 0, "the same schema");
    until(&leader, |state| decides(state, policy) && state.meta.settled >= round).await;

    // Its disk has the log of before; what it compiled is gone.
    several.start(dies).await;
    until(&leader, |state| ready(state, &policy) == 3).await;
    let back = group(several.supers[dies].node());
    until(&back, |state| decides(state, policy)).await;
    assert!(several.supers[dies].node().context().as_super().unwrap().policies.prepared(&policy).is_some());
    several.rounds(2).await;

    // Each round was decided by one rule, the same on all.
    let last = leader.read(|state| state.meta.settled);
    for one in &several.supers {
        let store = one.node().context().as_super().unwrap().store.clone();
        for number in 1..=last.0 {
            let record = store.round(RoundId(number)).unwrap().unwrap();
            let expected = if number < round.0 { first } else { policy };
            let part = record.slots.iter().find(|part| part.slot == Slot::Ban).unwrap();
            assert_eq!(part.policy, Some(expected), "round {number}");
        }
    }
    nobody_was_blamed(&leader);

    // All have the same shadow, also the one that was dead when most of it happened.
    let told = timeout(HANG, async {
        loop {
            let seen =
                several.supers.iter().map(|one| one.node().context().as_super().unwrap().shadows.seen(Slot::Ban));
            let seen: Vec<_> = seen.flatten().collect();
            if seen.len() == 3 && seen.iter().all(|one| one.settled == seen[0].settled && one.tally.rounds > 2) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let told = told.await.unwrap();
    for one in &told {
        assert_eq!((one.policy, one.late, &one.tally), (shadowed, false, &told[0].tally));
    }
    // Both rules say the same of those that are up.
    assert_eq!((told[0].tally.members_otherwise, told[0].tally.first), (0, None), "{:?}", told[0].tally);

    // One command goes back.
    several.decide(Operation::Rollback(Slot::Ban)).await.unwrap();
    until(&several.leader().await, |state| decides(state, first)).await;
    for node in followers {
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_super_that_cannot_run_a_rule_says_why_and_a_majority_is_still_enough() {
    let several = Several::of(1, 1_000).await;
    let leader = several.leader().await;
    // Bytes that no admission has seen: whoever proposes them is a super that lies, or one of a later release.
    let bytes = b"\0asm of another release".to_vec();
    let (component, now_ms) = (Digest::of(&bytes), leader.now_ms());
    let chunk = kernel::command::Chunk { component, size: bytes.len() as u32, offset: 0, bytes };
    leader.propose(Command::Chunk(chunk)).await.unwrap().unwrap();
    let stage = kernel::command::Stage {
        slot: Slot::Ban,
        component,
        config: "{}".into(),
        description: kernel::decide::Description::default(),
        by: Operator::Socket,
        now_ms,
    };
    let Reply::Staged { policy, .. } = leader.propose(Command::Stage(stage)).await.unwrap().unwrap() else {
        panic!("not staged")
    };
    until(&leader, |state| !state.policies[&policy].unready.is_empty()).await;
    let why = leader.read(|state| state.policies[&policy].unready[0].1.clone());
    assert!(why.starts_with("component: ") || why.starts_with("decode: "), "{why}");
    let refused = several.decide(Operation::Activate { slot: Slot::Ban, policy, round: None }).await;
    assert!(matches!(refused, Err(Reject::NotReady { .. })), "{refused:?}");
}

/// Stages a rule that misbehaves when it decides, on all supers, and activates it. Gives it and its first round.
async fn misbehaves(several: &Several, act: &str) -> (Digest, RoundId) {
    let leader = several.leader().await;
    let policy = several.stage_component(0, MISBEHAVE, &format!("{{\"act\":\"{act}\"}}")).await;
    until(&leader, |state| ready(state, &policy) == several.supers.len()).await;
    let activated = several.decide(Operation::Activate { slot: Slot::Ban, policy, round: None }).await;
    let Ok(Reply::From { round, .. }) = activated else { panic!("{activated:?}") };
    (policy, round)
}

/// What became of the ban rule in a round, as a super keeps it.
fn part(node: &Node, round: u64) -> Option<kernel::outcome::SlotRecord> {
    let record = node.context().as_super().unwrap().store.round(RoundId(round)).unwrap()?;
    record.slots.into_iter().find(|part| part.slot == Slot::Ban)
}

fn kind(part: &kernel::outcome::SlotRecord) -> Option<FaultKind> {
    part.fault.as_ref().map(|fault| fault.kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_traps_once_it_decides_gives_way_on_all_supers_although_the_leader_dies_on_the_way() {
    let mut several = Several::of(3, 1_000).await;
    let followers = several.followers(3).await;
    let leader = several.leader().await;
    until(&leader, |state| all_up(state, 3)).await;
    let before = leader.read(|state| state.slot(Slot::Ban).row.active.unwrap());
    let (bad, from) = misbehaves(&several, "panic").await;

    // One fault is counted when the leader dies; the next one goes on counting.
    until(&leader, |state| !state.slot(Slot::Ban).row.faults.is_empty()).await;
    let (dies, _) = several.leading().await;
    several.kill(dies).await;
    let leader = several.leader().await;
    until(&leader, |state| decides(state, before) && state.slot(Slot::Ban).row.scheduled.is_none()).await;
    several.start(dies).await;
    several.rounds(2).await;

    let last = leader.read(|state| state.meta.settled.0);
    let told: Vec<_> = several
        .supers
        .iter()
        .map(|one| (from.0..=last).map(|round| part(one.node(), round).unwrap()).collect::<Vec<_>>())
        .collect();
    assert!(told.iter().all(|rounds| *rounds == told[0]), "{told:?}");
    let (failed, others): (Vec<_>, Vec<_>) = told[0].iter().partition(|part| part.policy == Some(bad));
    // A round that is suspect because the leader changed does not call the ban rule.
    let faults = failed.iter().filter(|part| kind(part) == Some(FaultKind::Trap)).count();
    assert!(faults >= 3 && failed.iter().all(|part| matches!(kind(part), Some(FaultKind::Trap) | None)), "{failed:?}");
    assert!(!others.is_empty() && others.iter().all(|part| part.policy == Some(before) && part.fault.is_none()));
    nobody_was_blamed(&leader);
    for node in followers {
        node.kill().await;
    }
    several.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_slow_on_the_super_that_leads_is_neutral_there_and_is_not_thrown_out() {
    let several = Several::of(3, 1_000).await;
    let followers = several.followers(3).await;
    let leader = several.leader().await;
    until(&leader, |state| all_up(state, 3)).await;
    let (at, _) = several.leading().await;
    let context = several.supers[at].node().context().clone();
    let mut events = context.events.subscribe(None).unwrap();
    context.as_super().unwrap().policies.slow_down();
    let (slow, from) = misbehaves(&several, "slow").await;

    // More often than a rule may trap: it is the machine's fault, not the rule's.
    until(&leader, |state| state.slot(Slot::Ban).row.deadline_faults > 3).await;
    leader.read(|state| {
        let row = &state.slot(Slot::Ban).row;
        assert_eq!((row.active, row.faults.len(), row.scheduled), (Some(slow), 0, None));
    });
    // A suspect round does not call the rule.
    let last = leader.read(|state| state.meta.settled.0);
    let parts: Vec<_> = (from.0..=last).map(|round| part(several.supers[at].node(), round).unwrap()).collect();
    let slow_ones = parts.iter().filter(|part| kind(part) == Some(FaultKind::Deadline)).count();
    assert!(slow_ones > 3 && parts.iter().all(|part| part.policy == Some(slow)), "{parts:?}");
    assert!(parts.iter().all(|part| matches!(kind(part), Some(FaultKind::Deadline) | None)), "{parts:?}");
    // The operator hears of it the third time.
    let told = timeout(HANG, async {
        loop {
            let event = events.live.recv().await.unwrap();
            if event.data.contains("3 times in a row") {
                return event.data.clone();
            }
        }
    });
    let told = told.await.unwrap();
    assert!(told.contains("wall clock") && told.contains("\"fault\""), "{told}");

    // Another super leads: there it decides, however busy this machine is now and then.
    let decides_there = timeout(HANG, async {
        loop {
            let (now, leader) = several.leading().await;
            if now == at {
                // Nobody else may be there at the moment.
                let _again = leader.hand_over(None).await;
                continue;
            }
            several.rounds(1).await;
            let last = leader.read(|state| state.meta.settled.0);
            let decided = part(several.supers[now].node(), last).unwrap();
            if decided.called && decided.fault.is_none() {
                return (decided.policy, leader);
            }
        }
    });
    let (decided, leader) = decides_there.await.unwrap();
    assert_eq!(decided, Some(slow));
    assert!(leader.read(|state| decides(state, slow)));
    nobody_was_blamed(&leader);
    for node in followers {
        node.kill().await;
    }
    several.stop().await;
}
