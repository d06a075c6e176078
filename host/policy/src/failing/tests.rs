use kernel::decide::{Call, Description, FaultKind, Judgement, Reward, Run, sample};

use super::*;
use crate::cases::cases;

/// Fails as a test says, by what it sees.
struct Rule {
    description: Description,
    fails: fn(&Call<'_>) -> Option<String>,
}

impl Policy for Rule {
    fn description(&self) -> &Description {
        &self.description
    }

    fn reward(&self, _: &Call<'_>) -> Run<Reward> {
        Run::native(Err(Fault::new(FaultKind::NotPrepared, "no reward rule")))
    }

    fn judge(&self, call: &Call<'_>) -> Run<Judgement> {
        let len = call.members.len();
        Run::native(match (self.fails)(call) {
            Some(words) => Err(Fault::new(FaultKind::Trap, &words)),
            None => Ok(Judgement {
                strikes: vec![0; len],
                standing: vec![0; len],
                until: vec![0; len],
                reasons: vec![0; len],
                memory: call.memory.to_vec(),
            }),
        })
    }
}

/// A population in which everybody differs by `earned`.
fn call(members: usize) -> Inputs {
    let description = Description { memory_bytes: 2, ..Description::default() };
    let (round, columns, memory) = sample(&description);
    let settings = Settings::default();
    let sample = Inputs { slot: Slot::Ban, config: "{}".into(), round, members: columns, memory, settings };
    let mut inputs = sample.only(&(0..members).map(|at| at % 15).collect::<Vec<_>>());
    inputs.members.earned = (0..members as u64).collect();
    inputs
}

fn smallest(members: usize, fails: fn(&Call<'_>) -> Option<String>) -> Option<Smallest> {
    let description = Description { memory_bytes: 2, ..Description::default() };
    let (rule, inputs) = (Rule { description, fails }, call(members));
    let fault = inputs.fails(&rule).expect_err("it does not fail");
    let names = (0..members).map(|at| format!("m-{at}")).collect();
    Failing { inputs, names, fault }.smallest(&rule)
}

#[test]
fn the_one_member_is_found_among_ten_thousand() {
    let found = smallest(10_000, |call| {
        let at = call.members.earned.iter().position(|earned| *earned == 7_321)?;
        Some(format!("index out of bounds at {at} of {}", call.members.len()))
    })
    .unwrap();
    assert_eq!((found.places.as_slice(), found.of, found.ended_early), ([7_321].as_slice(), 10_000, false));
    assert!(found.calls <= 30, "{}", found.calls);
    assert_eq!(found.failing.names, ["m-7321"]);
    assert_eq!(found.failing.fault.message, "index out of bounds at 0 of 1");
    let shown = found.failing.shown(0);
    let value = |key: &str| shown.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    assert_eq!((value("name"), value("earned")), (Some("m-7321".into()), Some("7321".into())));
}

#[test]
fn members_that_fail_only_together_are_found_together() {
    let found = smallest(500, |call| {
        let both = [17, 403].iter().all(|earned| call.members.earned.contains(earned));
        both.then(|| "the two met".into())
    })
    .unwrap();
    assert_eq!((found.places, found.ended_early), (vec![17, 403], false));
}

#[test]
fn what_takes_the_whole_population_is_left_whole() {
    let found = smallest(20, |call| (call.members.len() >= 20).then(|| "too many".into())).unwrap();
    assert_eq!((found.places.len(), found.ended_early), (20, false));
    let found = smallest(9_000, |call| (call.members.len() >= 9_000).then(|| "too many".into())).unwrap();
    assert_eq!((found.places.len(), found.ended_early), (9_000, true));
    assert!(found.calls <= CALLS + 1, "{}", found.calls);
}

#[test]
fn another_fault_of_fewer_members_is_not_the_same_one() {
    let found = smallest(64, |call| {
        if call.members.len() < 10 {
            return Some("attempt to divide by zero".into());
        }
        call.members.earned.contains(&3).then(|| "the rule fell over member 3".into())
    })
    .unwrap();
    assert!(found.places.len() >= 10 && found.places.contains(&3), "{:?}", found.places);
}

#[test]
fn what_does_not_fail_again_has_no_smallest_part() {
    let description = Description { memory_bytes: 2, ..Description::default() };
    let rule = Rule { description, fails: |_| None };
    let (inputs, names) = (call(3), Vec::new());
    let failing = |kind| Failing { inputs: inputs.clone(), names: names.clone(), fault: Fault::new(kind, "late") };
    assert!(failing(FaultKind::Trap).smallest(&rule).is_none());
    assert!(failing(FaultKind::Deadline).smallest(&rule).is_none());
}

#[test]
fn a_call_with_nobody_can_be_what_fails() {
    let description = Description::default();
    let rule = Rule { description, fails: |call| call.members.is_empty().then(|| "nobody".into()) };
    let failing = Failing::of_self_test(&rule, Slot::Ban, "{}", &Settings::default()).unwrap();
    let found = failing.smallest(&rule).unwrap();
    assert_eq!((found.places.len(), found.of), (0, 0));
    assert_eq!(cases(&found.failing.case()).unwrap().len(), 1);
    let honest = Rule { description: Description::default(), fails: |_| None };
    assert!(Failing::of_self_test(&honest, Slot::Ban, "{}", &Settings::default()).is_none());
}

#[test]
fn the_case_of_a_fault_reads_as_the_call_that_it_was() {
    let found = smallest(100, |call| call.members.earned.contains(&42).then(|| "\u{1b}[31m \"red\"\n".into())).unwrap();
    let text = found.failing.case();
    assert!(!text.contains('\u{1b}') && text.contains("expect.fault = \"trap\""), "{text}");
    let read = cases(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let description = Description { memory_bytes: 2, ..Description::default() };
    assert_eq!(read[0].inputs(Slot::Ban, &description).unwrap().unwrap(), found.failing.inputs);
}
