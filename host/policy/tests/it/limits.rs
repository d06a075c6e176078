//! Limits grow with the population, and memory of members goes in and out whole.

use kernel::decide::{Call, FaultKind, Judgement, LimitSettings, Members, Policy, RoundInput, Run, Slot};
use kernel::id::Digest;
use policy::{Prepared, admit};

use crate::guests::{Guest, engine, honest};

/// Adds 1 to each byte of memory and says what it remembers of each member.
fn remembering(bytes: u32) -> Guest {
    Guest {
        describe: format!(
            "(i32.store offset=20 (local.get $out) (i32.const {bytes}))
             (call $list (i32.add (local.get $out) (i32.const 24)) (i32.const 48) (i32.const 1))"
        ),
        before: "(block $done (loop $l
              (br_if $done (i32.ge_u (local.get $i) (i32.load offset=164 (local.get $a))))
              (local.set $at (i32.add (i32.load offset=160 (local.get $a)) (local.get $i)))
              (i32.store8 (local.get $at) (i32.add (i32.load8_u (local.get $at)) (i32.const 1)))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br $l)))"
            .into(),
        ..honest()
    }
}

fn admitted(guest: &Guest, limits: &LimitSettings) -> Prepared {
    admit(engine(), Slot::Ban, &guest.build(), "{}", limits).unwrap_or_else(|findings| panic!("{findings}")).policy
}

fn judge(policy: &Prepared, population: usize, memory: &[u8]) -> Run<Judgement> {
    let members = Members {
        presence: vec![1; population],
        facts: vec![0; population],
        rtt_us: vec![0; population],
        observers: vec![0; population],
        age: vec![0; population],
        standing: vec![0; population],
        strikes: vec![0; population],
        earned: vec![0; population],
        data: vec![0; population],
        class: vec![0; population],
        group: vec![0; population],
        flags: vec![0; population],
        extra: Vec::new(),
    };
    let round = RoundInput { population: population as u32, seed: Digest::of(b"limits"), ..RoundInput::default() };
    policy.judge(&Call { config: "{}", round: &round, members: &members, memory })
}

#[test]
fn each_member_gets_back_what_was_remembered_of_it() {
    let policy = admitted(&remembering(3), &crate::guests::limits());
    let mut memory = vec![0, 1, 2, 10, 11, 12, 255, 0, 9];
    for _ in 0..2 {
        memory = judge(&policy, 3, &memory).result.unwrap().memory;
    }
    assert_eq!(memory, [2, 3, 4, 12, 13, 14, 1, 2, 11]);
}

#[test]
fn the_largest_memory_fits_its_limits() {
    let limits = LimitSettings { state_bytes: 4_096, ..crate::guests::limits() };
    let guest = Guest { before: String::new(), ..remembering(4_096) };
    let policy = admitted(&guest, &limits);
    let memory = vec![7; 20_000 * 4_096];
    let judged = judge(&policy, 20_000, &memory).result.unwrap();
    assert!(judged.memory == memory && judged.standing.len() == 20_000);
}

#[test]
fn every_limit_scales_with_the_population_and_bites() {
    let generous = crate::guests::limits();
    let policy = admitted(&remembering(200), &generous);
    let kind = |limits: LimitSettings, population: usize| {
        let run = judge(&policy.with_limits(limits), population, &vec![0; population * 200]);
        run.result.map(|_| ()).map_err(|fault| fault.kind)
    };
    // Some 4,000 units of fuel a member here.
    let fuel = LimitSettings { fuel_base: 100_000, fuel_member: 6_000, ..generous };
    assert_eq!((kind(fuel, 10), kind(fuel, 5_000)), (Ok(()), Ok(())));
    let fuel = LimitSettings { fuel_member: 0, ..fuel };
    assert_eq!((kind(fuel, 10), kind(fuel, 5_000)), (Ok(()), Err(FaultKind::Fuel)));

    let memory = LimitSettings { memory_base_bytes: 1 << 20, memory_member_bytes: 0, ..generous };
    assert_eq!(kind(memory, 20_000), Ok(()));
    let small = LimitSettings { memory_base_bytes: 64 << 10, ..memory };
    assert_eq!(kind(small, 10), Err(FaultKind::Memory));

    let output = LimitSettings { output_base_bytes: 0, ..generous };
    assert_eq!((kind(output, 10), kind(output, 5_000)), (Ok(()), Ok(())));
}

#[test]
fn many_evaluations_at_once_wait_their_turn() {
    let policy = admitted(&remembering(8), &crate::guests::limits());
    let results: Vec<bool> = std::thread::scope(|scope| {
        let evaluate = || judge(&policy, 100, &[0; 800]).result.is_ok();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(move || (0..20).all(|_| evaluate()))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results, [true; 16]);
}
