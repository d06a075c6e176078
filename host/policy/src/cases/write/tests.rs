use kernel::decide::{Column, Description, Members, RoundInput, Slot};
use kernel::id::Digest;
use proptest::prelude::{Strategy, any};
use proptest::{prop_assert_eq, proptest};

use super::*;
use crate::cases::cases;

/// Any call of a rule that remembers three bytes and asks for two columns.
fn call() -> impl Strategy<Value = Inputs> {
    let row = (any::<[u64; 4]>(), any::<[u32; 5]>(), any::<[u16; 3]>(), 0_u8..3, 0_u8..5, any::<[u8; 3]>());
    let round = (any::<u32>(), any::<bool>(), any::<[u8; 32]>());
    (proptest::collection::vec(row, 0..12), round, any::<bool>()).prop_map(|(rows, (number, suspect, seed), quiet)| {
        // Half of the calls are nearly empty, as those of people are.
        let quiet = u64::from(!quiet);
        let each = |of: fn(&[u64; 4]) -> u64| rows.iter().map(|row| of(&row.0) * quiet).collect::<Vec<_>>();
        let wide = |at: usize| rows.iter().map(|row| row.1[at] * quiet as u32).collect::<Vec<_>>();
        let short = |at: usize| rows.iter().map(|row| row.2[at] * quiet as u16).collect::<Vec<_>>();
        let column = |name: &str, values| Column { name: name.into(), values };
        Inputs {
            slot: Slot::Ban,
            config: r#"{"a key":[1,true,{"b":"c\"\\\n"}],"warn":2}"#.into(),
            round: RoundInput {
                number: number.into(),
                now_ms: 1_767_225_600_000,
                elapsed_ms: 10_001,
                interval_ms: 10_000,
                population: rows.len() as u32,
                suspect,
                seed: Digest(seed),
            },
            members: Members {
                presence: rows.iter().map(|row| row.3).collect(),
                facts: short(0),
                rtt_us: wide(0),
                observers: short(1),
                age: wide(1),
                standing: rows.iter().map(|row| row.4).collect(),
                strikes: short(2),
                earned: each(|row| row[0] >> 1),
                data: each(|row| row[1]),
                class: wide(2),
                group: wide(3),
                flags: wide(4),
                extra: vec![
                    column("observer.0.presence", rows.iter().map(|row| i64::from(row.3)).collect()),
                    column("observer.3.rtt-us", each(|row| row[2]).into_iter().map(|v| v as i64).collect()),
                ],
            },
            memory: rows.iter().flat_map(|row| row.5).map(|byte| byte * quiet as u8).collect(),
            settings: Settings { points_member: 7, state_bytes: 1_262, ..Settings::default() },
        }
    })
}

fn described() -> Description {
    let extra = ["observer.0.presence", "observer.3.rtt-us"].map(String::from).to_vec();
    Description { memory_bytes: 3, extra, reasons: vec!["one".into(), "two".into()], ..Description::default() }
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same_call(inputs in call()) {
        let len = inputs.members.len();
        let names: Vec<String> = (0..len / 2).map(|at| format!("n\"{at}")).collect();
        let judged = Judgement {
            strikes: inputs.members.strikes.clone(),
            standing: vec![1; len],
            until: vec![9; len],
            reasons: vec![2; len],
            memory: inputs.memory.clone(),
        };
        let reasons = described().reasons;
        let remarks = ["a remark\nof two lines".to_string()];
        for expected in [Expected::Fault(FaultKind::Fuel), Expected::Judged(&judged, &reasons)] {
            let text = Written { remarks: &remarks, name: "a \"case\"", inputs: &inputs, names: &names, expected }.text();
            let read = cases(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
            prop_assert_eq!(read[0].name(), "a \"case\"");
            let again = read[0].inputs(Slot::Ban, &described()).unwrap().unwrap();
            prop_assert_eq!(again.digest(), inputs.digest());
            prop_assert_eq!(again, inputs.clone());
        }
    }
}
