use std::sync::Mutex;

use super::*;
use crate::decide::Tariff;
use crate::id::{MemberNumber, RoundId};
use crate::policies::{Memory, PolicyRow, inflate_delta};
use crate::round::fixture::{OPEN, node, says, state};
use crate::round::merge::merge;
use crate::round::{At, Partial, cause, fact};
use crate::standing::Standing;
use crate::units::Points;

/// What a policy was called with: all of it, and its digest as the caller computes it.
type Asked = (RoundInput, Members, Vec<u8>, Digest);

/// Answers what it is told to, and keeps what it was asked.
struct Told {
    description: Description,
    reward: Reward,
    judgement: Judgement,
    asked: Mutex<Vec<Asked>>,
}

impl Told {
    fn keep<T>(&self, call: &Call<'_>, slot: Slot, answer: &T) -> Run<T>
    where
        T: Clone,
    {
        let asked = (call.round.clone(), call.members.clone(), call.memory.to_vec(), call.digest(slot));
        self.asked.lock().unwrap().push(asked);
        let log = vec![LogLine { level: 2, message: slot.name().into() }];
        Run { result: Ok(answer.clone()), fuel: 7, log }
    }

    fn asked(&self) -> Asked {
        let asked = self.asked.lock().unwrap();
        let [asked] = &asked[..] else { panic!("called {} times", asked.len()) };
        asked.clone()
    }
}

impl Policy for Told {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reward(&self, call: &Call<'_>) -> Run<Reward> {
        self.keep(call, Slot::Reward, &self.reward)
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        self.keep(call, Slot::Ban, &self.judgement)
    }
}

/// A policy for `len` members with two bytes of memory each, which it sets to `memory`.
fn told(len: usize, memory: u8, extra: &[&str]) -> Told {
    let memory = vec![memory; 2 * len];
    Told {
        description: Description {
            memory_bytes: 2,
            reasons: vec!["one".into()],
            extra: extra.iter().map(|name| (*name).into()).collect(),
            ..Description::default()
        },
        reward: Reward {
            points: vec![10; len],
            reasons: vec![1; len],
            memory: memory.clone(),
            tariff: Tariff::default(),
        },
        judgement: Judgement {
            strikes: vec![1; len],
            standing: vec![0; len],
            until: vec![0; len],
            reasons: vec![1; len],
            memory,
        },
        asked: Mutex::default(),
    }
}

const BAN: Digest = Digest([2; 32]);
const REWARD: Digest = Digest([1; 32]);

fn seat(state: &mut State, slot: Slot, policy: Digest, description: &Description) {
    let row = PolicyRow {
        able: Vec::new(),
        unable: Vec::new(),
        slot,
        component: policy,
        config: alloc::format!("{{\"slot\":\"{slot}\"}}"),
        config_digest: policy,
        description: description.clone(),
        ready: Vec::new(),
        staged: RoundId(0),
        unused_since: RoundId(0),
        unready: Vec::new(),
    };
    state.policies.insert(policy, row);
    let slot = state.slot_mut(slot);
    slot.row.active = Some(policy);
    slot.memory = Memory::new(description.memory_bytes as usize);
}

/// A cluster of `len` members with these policies in force.
fn cluster(len: u8, ban: &Told, reward: &Told) -> State {
    let mut state = state(2, len);
    state.meta.settled_ms = 1_000;
    state.meta.settled_digest = Digest([9; 32]);
    state.meta.applied = LogIndex(77);
    state.meta.settings_version = 3;
    seat(&mut state, Slot::Ban, BAN, &ban.description);
    seat(&mut state, Slot::Reward, REWARD, &reward.description);
    state
}

fn report(state: &State, said: [&str; 2]) -> Report {
    merge(state, &OPEN, &state.queue, &[says(0, said[0]), says(1, said[1])])
}

fn run(state: &State, report: Report, ban: &Told, reward: &Told) -> Settle {
    Deciding::gather(state, report, Vec::new(), 12_500).run(Some(ban), Some(reward), "native").0
}

fn fault<T>(decided: &Decided<T>) -> Option<FaultKind> {
    match &decided.answer {
        Answer::Fault(fault) => Some(fault.kind),
        Answer::Columns(_) | Answer::NotCalled => None,
    }
}

#[test]
fn every_column_holds_what_state_and_report_say() {
    let (ban, reward) = (told(3, 0, &[]), told(3, 0, &[]));
    let mut state = cluster(3, &ban, &reward);
    let member = state.members.get_mut(&node(1)).unwrap();
    member.profile.class = 5;
    member.profile.group = 6;
    member.profile.version.minor += 1;
    member.hot.age = 40;
    member.hot.strikes = 4;
    member.hot.standing = Standing::Probation;
    member.hot.earned = Points(99);
    state.slot_mut(Slot::Ban).memory.row_mut(MemberNumber(1)).unwrap().copy_from_slice(&[8, 9]);
    let mut first = Partial { rtt: vec![0, 700, 0], data: vec![At { at: 1, value: 12 }], ..says(0, "ms-") };
    first.returns.set(2);
    first.facts = vec![At { at: 0, value: fact::LATE }];
    let second = Partial { rtt: vec![0, 500, 0], ..says(1, "ms-") };
    let report = merge(&state, &OPEN, &state.queue, &[first, second]);

    let settle = run(&state, report.clone(), &ban, &reward);
    let (round, members, memory, digest) = ban.asked();
    assert_eq!(
        members,
        Members {
            presence: vec![0, 1, 0],
            facts: vec![fact::MISSED | fact::LATE, 0, fact::ABSENT],
            rtt_us: vec![0, 500, 0],
            observers: vec![0x0300, 0x0303, 0],
            age: vec![0, 40, 0],
            standing: vec![0, 4, 0],
            strikes: vec![0, 4, 0],
            earned: vec![0, 99, 0],
            data: vec![0, 12, 0],
            class: vec![0, 5, 0],
            group: vec![0, 6, 0],
            flags: vec![0, flag::NEWER_VERSION, flag::ASKED_TO_RETURN],
            extra: Vec::new(),
        }
    );
    assert_eq!(memory, [0, 0, 8, 9, 0, 0]);
    assert_eq!(
        round,
        RoundInput {
            number: 10,
            now_ms: 12_500,
            elapsed_ms: 11_500,
            interval_ms: 10_000,
            population: 3,
            suspect: false,
            seed: Digest([9; 32]),
        }
    );
    assert_eq!((settle.ban.policy, settle.ban.input, settle.ban.fuel), (Some(BAN), Some(digest), 7));
    assert_eq!(settle.reward.input, Some(reward.asked().3));
    assert_eq!((settle.round, settle.term, settle.now_ms), (report.round, report.term, 12_500));
    assert_eq!((settle.settings_version, settle.columns, settle.engine.as_str()), (3, LogIndex(77), "native"));
    assert_eq!(settle.report, report);
}

#[test]
fn the_ban_policy_is_called_first_and_each_gets_its_own_memory_and_extra_columns() {
    let ban = told(3, 1, &["observer.1.presence", "observer.1.rtt-us"]);
    let reward = told(3, 2, &["observer.0.presence"]);
    let mut state = cluster(3, &ban, &reward);
    state.slot_mut(Slot::Reward).memory.row_mut(MemberNumber(2)).unwrap().copy_from_slice(&[5, 5]);
    let seen = Partial { rtt: vec![300, 0, 0], ..says(1, "sm-") };
    let report = merge(&state, &OPEN, &state.queue, &[says(0, "s-m"), seen]);
    let deciding = Deciding::gather(&state, report, Vec::new(), 2_000);
    assert_eq!(deciding.policies(), (Some(BAN), Some(REWARD)));
    let (settle, log) = deciding.run(Some(&ban), Some(&reward), "native");
    let order: Vec<Slot> = log.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(order, [Slot::Ban, Slot::Reward]);
    let extra =
        |told: &Told| told.asked().1.extra.iter().map(|c| (c.name.clone(), c.values.clone())).collect::<Vec<_>>();
    assert_eq!(
        extra(&ban),
        [("observer.1.presence".into(), vec![1, 0, 2]), ("observer.1.rtt-us".into(), vec![300, 0, 0])]
    );
    assert_eq!(extra(&reward), [("observer.0.presence".into(), vec![1, 2, 0])]);
    assert_eq!(reward.asked().2, [0, 0, 0, 0, 5, 5]);
    let Answer::Columns(columns) = &settle.reward.answer else { panic!() };
    assert_eq!(inflate_delta(&columns.delta, 6).unwrap(), [2, 2, 2, 2, 7, 7]);
}

#[test]
fn in_a_suspect_round_nobody_is_judged_and_only_rows_that_are_up_change() {
    let (ban, reward) = (told(10, 1, &[]), told(10, 3, &["observer.0.presence"]));
    let mut state = cluster(10, &ban, &reward);
    state.slot_mut(Slot::Reward).memory.row_mut(MemberNumber(9)).unwrap().copy_from_slice(&[5, 5]);
    let mut report = report(&state, ["ssssmmmmmm", "----------"]);
    report.facts[9] |= fact::LATE;
    assert_eq!(report.marks.causes, cause::MISSING);
    let deciding = Deciding::gather(&state, report, Vec::new(), 2_000);
    assert_eq!(deciding.policies(), (None, Some(REWARD)));
    let (settle, _) = deciding.run(Some(&ban), Some(&reward), "native");
    assert!(ban.asked.lock().unwrap().is_empty());
    assert_eq!((settle.ban.policy, settle.ban.input, settle.ban.answer), (Some(BAN), None, Answer::NotCalled));
    let (round, members, _, _) = reward.asked();
    assert!(round.suspect);
    assert_eq!(members.presence, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    assert_eq!((members.facts[9], members.observers[9], members.observers[0]), (0, 0, 0x0101));
    assert_eq!(members.extra[0].values, [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    let Answer::Columns(columns) = &settle.reward.answer else { panic!() };
    assert_eq!(columns.points, [10, 10, 10, 10, 0, 0, 0, 0, 0, 0]);
    assert_eq!(columns.reasons, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]);
    let change = inflate_delta(&columns.delta, 20).unwrap();
    assert_eq!(change, [[3; 8].as_slice(), &[0; 12]].concat());
}

#[test]
fn a_memory_that_stays_travels_as_nothing() {
    let (ban, reward) = (told(3, 0, &[]), told(3, 0, &[]));
    let state = cluster(3, &ban, &reward);
    let Answer::Columns(columns) = run(&state, report(&state, ["sss", "sss"]), &ban, &reward).ban.answer else {
        panic!()
    };
    assert!(columns.delta.is_empty());
}

#[test]
fn a_wrong_answer_is_a_fault_of_its_slot_alone() {
    type Break = fn(&mut Told);
    let breaks: [(Break, Option<FaultKind>, Option<FaultKind>); 8] = [
        (|_| {}, None, None),
        (|t| t.judgement.until.push(0), Some(FaultKind::Length), None),
        (|t| t.judgement.standing[1] = 4, Some(FaultKind::Code), None),
        (|t| t.judgement.memory.truncate(5), Some(FaultKind::Length), None),
        (|t| t.reward.points.truncate(2), None, Some(FaultKind::Length)),
        (|t| t.reward.reasons[0] = 2, None, Some(FaultKind::Code)),
        (|t| t.reward.points = vec![1_000, 1_000, 1_001], None, Some(FaultKind::Points)),
        (|t| t.reward.points = vec![3_000, 0, i64::MIN], None, None),
    ];
    for (at, (spoil, ban_fault, reward_fault)) in breaks.into_iter().enumerate() {
        let (mut ban, mut reward) = (told(3, 0, &[]), told(3, 0, &[]));
        spoil(&mut ban);
        spoil(&mut reward);
        let state = cluster(3, &ban, &reward);
        let settle = run(&state, report(&state, ["sss", "sss"]), &ban, &reward);
        assert_eq!((fault(&settle.ban), fault(&settle.reward)), (ban_fault, reward_fault), "{at}");
        assert!(settle.ban.input.is_some() && settle.reward.fuel == 7, "what it saw and cost is kept");
    }
}

#[test]
fn a_change_of_memory_beyond_its_bound_is_a_fault() {
    let (mut ban, reward) = (told(3, 0, &[]), told(3, 0, &[]));
    ban.description.memory_bytes = 4_096;
    // Noise, which does not deflate.
    ban.judgement.memory = (0..384_u32).flat_map(|i| Digest::of(&i.to_le_bytes()).0).collect();
    let mut state = cluster(3, &ban, &reward);
    assert_eq!(fault(&run(&state, report(&state, ["sss", "sss"]), &ban, &reward).ban), None);
    (state.meta.settings.delta_base_bytes, state.meta.settings.delta_member_bytes) = (10_000, 100);
    let settle = run(&state, report(&state, ["sss", "sss"]), &ban, &reward);
    assert_eq!((fault(&settle.ban), fault(&settle.reward)), (Some(FaultKind::Delta), None));
}

#[test]
fn a_slot_whose_policy_is_not_prepared_faults_and_one_without_a_policy_is_not_called() {
    let (ban, reward) = (told(3, 0, &[]), told(3, 0, &[]));
    let mut state = cluster(3, &ban, &reward);
    let up = report(&state, ["sss", "sss"]);
    let gather = |state: &State| Deciding::gather(state, up.clone(), Vec::new(), 2_000);
    let (settle, _) = gather(&state).run(None, Some(&reward), "native");
    assert_eq!(
        (fault(&settle.ban), settle.ban.policy, settle.ban.input),
        (Some(FaultKind::NotPrepared), Some(BAN), None)
    );
    assert_eq!(fault(&settle.reward), None);
    // Something else was prepared in its place.
    let mut other = told(3, 0, &[]);
    other.description.memory_bytes = 3;
    let (settle, _) = gather(&state).run(Some(&other), Some(&other), "native");
    assert_eq!(fault(&settle.ban), Some(FaultKind::NotPrepared));
    state.slot_mut(Slot::Ban).row.active = None;
    let (settle, _) = gather(&state).run(None, Some(&reward), "native");
    assert_eq!((settle.ban.policy, settle.ban.answer), (None, Answer::NotCalled));
}

#[test]
fn an_empty_queue_is_decided_too() {
    let (ban, reward) = (told(0, 0, &[]), told(0, 0, &[]));
    let state = cluster(0, &ban, &reward);
    let settle = run(&state, report(&state, ["", ""]), &ban, &reward);
    assert_eq!((fault(&settle.ban), fault(&settle.reward)), (None, None));
    assert_eq!(reward.asked().0.population, 0);
}

#[test]
fn extra_columns_are_known_by_name() {
    for (name, known) in [
        ("observer.0.presence", true),
        ("observer.7.rtt-us", true),
        ("observer.8.presence", false),
        ("observer.01.presence", false),
        ("observer.0.rtt_us", false),
        ("observer.N.presence", false),
        ("presence", false),
    ] {
        assert_eq!(is_extra(name), known, "{name}");
    }
    assert!(EXTRA.iter().all(|(name, _)| is_extra(&name.replace('N', "3"))));
}

#[test]
fn what_a_policy_is_called_with_can_be_taken_out_and_gives_the_same_answer() {
    let (ban, reward) = (told(3, 7, &["observer.1.presence"]), told(3, 8, &[]));
    let mut state = cluster(3, &ban, &reward);
    for at in 0..3 {
        state.members.get_mut(&node(at)).unwrap().hot.strikes = u16::from(at) + 1;
    }
    let deciding = Deciding::gather(&state, report(&state, ["sms", "-ss"]), Vec::new(), 12_500);
    let taken = Slot::OF_ROUNDS.map(|slot| deciding.inputs(slot).unwrap());
    let (settle, _) = deciding.run(Some(&ban), Some(&reward), "native");
    assert_eq!(taken.each_ref().map(|inputs| Some(inputs.digest())), [settle.reward.input, settle.ban.input]);
    assert_eq!(taken[0].reward(&reward).result.unwrap(), reward.reward);
    assert_eq!(taken[1].judge(&ban).result.unwrap(), ban.judgement);

    let some = taken[1].only(&[2, 0, 9]);
    assert_eq!((some.round.population, some.members.strikes.clone()), (2, vec![3, 1]));
    assert_eq!((some.memory.len(), some.members.extra[0].values.len()), (4, 2));
    assert_eq!(some.members.len(), some.members.rtt_us.len());
    assert_eq!(taken[1].only(&[0, 1, 2]), taken[1]);
}

#[test]
fn a_call_that_is_made_again_is_checked_as_a_settlement_checks_it() {
    let (mut ban, mut reward) = (told(3, 0, &[]), told(3, 0, &[]));
    ban.judgement.standing = vec![0, 4, 0];
    reward.reward.points = vec![3_001, 0, 0];
    let state = cluster(3, &ban, &reward);
    let deciding = Deciding::gather(&state, report(&state, ["sss", "sss"]), Vec::new(), 12_500);
    let fails = |slot, policy: &Told| deciding.inputs(slot).unwrap().fails(policy).unwrap_err();
    let faults = (fails(Slot::Ban, &ban), fails(Slot::Reward, &reward));
    let settle = deciding.clone().run(Some(&ban), Some(&reward), "native").0;
    assert_eq!((Some(faults.0.kind), Some(faults.1.kind)), (fault(&settle.ban), fault(&settle.reward)));
    assert_eq!((faults.0.kind, faults.1.kind), (FaultKind::Code, FaultKind::Points));
}

#[test]
fn of_a_suspect_round_there_are_no_inputs_for_the_ban_policy_and_a_pay_that_counts() {
    let (ban, reward) = (told(2, 0, &[]), told(2, 9, &[]));
    let state = cluster(2, &ban, &reward);
    let mut report = report(&state, ["sm", "sm"]);
    report.marks.causes = cause::LAG;
    let deciding = Deciding::gather(&state, report, Vec::new(), 12_500);
    assert_eq!(deciding.inputs(Slot::Ban), None);
    let paid = deciding.inputs(Slot::Reward).unwrap().reward(&reward).result.unwrap();
    assert_eq!((paid.points, paid.memory), (vec![10, 0], vec![9, 9, 0, 0]));
}
