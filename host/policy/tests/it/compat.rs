//! Time goes by: what was built against 1.0.0 loads and decides as it did, and what was built for a later contract gets an
//! answer that names both versions.
//!
//! The files in `tests/fixtures` are never built again: a release that refuses one of them breaks its users' rules.

use kernel::decide::{Call, Column, Members, Policy as _, RoundInput, Slot};
use kernel::id::{Digest, NodeId};
use kernel::records::review::{Context, Review, Reviewed};
use policy::{Prepared, admit, inspect};

use crate::guests::{WIT, engine, honest, judge, limits};

/// A component of the day that 1.0.0 was frozen.
struct Kept {
    name: &'static str,
    slot: Slot,
    bytes: &'static [u8],
    /// Of the file, so that nobody replaces it.
    digest: &'static str,
    /// Of what it decides in the round below.
    decides: &'static str,
}

const KEPT: [Kept; 4] = [
    Kept {
        name: "ban-strikes",
        slot: Slot::Ban,
        bytes: include_bytes!("../fixtures/1.0.0/ban-strikes.wasm"),
        digest: "sha256:162124d7ba8e13d8f16beccfc34e8817188ab711486d429010102aac3433d7a6",
        decides: "sha256:5f8e85f148dd1959418543645b40f273357995a0758112fce7b634e80fa25fcf",
    },
    // Points, a tariff, no memory.
    Kept {
        name: "reward-flat",
        slot: Slot::Reward,
        bytes: include_bytes!("../fixtures/1.0.0/reward-flat.wasm"),
        digest: "sha256:88d1df33962bc2a326f1b8008cb3246e3336d52d6a5d364622a46a762ce3fd63",
        decides: "sha256:d592b4faeb44b78fc839e968da4e4aa0d3e1633c6ee6db4ad45df7c31cf13926",
    },
    // Memory of each member, and extra columns.
    Kept {
        name: "ntp-pool",
        slot: Slot::Ban,
        bytes: include_bytes!("../fixtures/1.0.0/ntp-pool.wasm"),
        digest: "sha256:91970813593f20c039f6b38105f872f9865edd9420b68652d5046ad3ecb4c533",
        decides: "sha256:fe65b02f4cd2ee7306cb94095fdcb32be3418a69ffd79237ae337332cf9f58b4",
    },
    // Records, of which it signs some.
    Kept {
        name: "sign-basic",
        slot: Slot::Signing,
        bytes: include_bytes!("../fixtures/1.0.0/sign-basic.wasm"),
        digest: "sha256:21c8e50020294b62ad9bd611d8a011258f0258d51454141a1eb8082e72728ef9",
        decides: "sha256:ba769c7d1ff4d983deb7af4aacb769bd9745db443460ba0bce6102a931fb20fe",
    },
];

/// A config of `sign-basic` with which it refuses most records.
const PICKY: &str = r#"{"allow_empty":false,"json":true,"max_bytes":20}"#;

/// Records of all kinds, as a batch of the cluster of the test.
fn reviewed(policy: &Prepared) -> Vec<u16> {
    let long = [b'x'; 65_536];
    let bodies: [&[u8]; 4] = [b"a reading", b"", b"{\"json\":true}", &long];
    let records: Vec<Reviewed<'_>> = (1..)
        .zip(bodies)
        .map(|(sequence, body)| Reviewed {
            sequence,
            author: NodeId([3; 32]),
            digest: Digest::of(body),
            expires_ms: 1_767_225_700_000,
            body,
        })
        .collect();
    let context = Context { batch: 9, round: 7, ordered_ms: 1_767_225_600_000, set_size: 4 };
    policy.review(&Review { config: PICKY, context, records: &records }).result.unwrap()
}

/// Members of all kinds, in a round of this test's own: the built-in sample may change.
fn members(extra: &[String]) -> Members {
    let each = 0..12_u8;
    Members {
        presence: each.clone().map(|at| at % 3).collect(),
        facts: each.clone().map(|at| u16::from(at % 7)).collect(),
        rtt_us: each.clone().map(|at| u32::from(at) * 1_000).collect(),
        observers: each.clone().map(|at| 0x0200 + u16::from(at % 3)).collect(),
        age: each.clone().map(|at| u32::from(at) * 100).collect(),
        standing: each.clone().map(|at| [0, 1, 2, 4][usize::from(at % 4)]).collect(),
        strikes: each.clone().map(|at| u16::from(at / 2)).collect(),
        earned: each.clone().map(u64::from).collect(),
        data: each.clone().map(u64::from).collect(),
        class: each.clone().map(|at| u32::from(at % 2)).collect(),
        group: each.clone().map(|at| u32::from(at % 5)).collect(),
        flags: each.clone().map(|at| u32::from(at % 8)).collect(),
        extra: extra
            .iter()
            .map(|name| Column { name: name.clone(), values: each.clone().map(|at| i64::from(at % 3)).collect() })
            .collect(),
    }
}

#[test]
fn what_was_built_against_1_0_0_loads_and_decides_for_ever() {
    for Kept { name, slot, bytes, digest, decides } in KEPT {
        assert_eq!(Digest::of(bytes).to_string(), digest, "{name}: the file is another one");
        let config = if slot == Slot::Signing { PICKY } else { "{}" };
        let admitted =
            admit(engine(), slot, bytes, config, &limits()).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        assert_eq!(admitted.description.name, name);
        let members = members(&admitted.description.extra);
        let round = RoundInput {
            number: 7,
            now_ms: 1_767_225_600_000,
            elapsed_ms: 10_000,
            interval_ms: 10_000,
            population: members.len() as u32,
            suspect: false,
            seed: Digest([7; 32]),
        };
        let memory = vec![1; members.len() * admitted.description.memory_bytes as usize];
        let call = Call { config: "{}", round: &round, members: &members, memory: &memory };
        let decided = match slot {
            Slot::Ban => {
                let it = admitted.policy.judge(&call).result.unwrap();
                format!("{:?}", (it.strikes, it.standing, it.until, it.reasons, it.memory))
            }
            Slot::Reward => {
                let it = admitted.policy.reward(&call).result.unwrap();
                let tariff = (it.tariff.overclaim_bp, it.tariff.overclaim_min, it.tariff.record_fee);
                format!("{:?}", (it.points, it.reasons, it.memory, tariff, it.tariff.record_fee_kib))
            }
            Slot::Signing => format!("{:?}", (reviewed(&admitted.policy), &admitted.description.reasons)),
        };
        assert_eq!(Digest::of(decided.as_bytes()).to_string(), decides, "{name} decides {decided}");
    }
}

/// The contract as a later release may have it: another version, and one interface more.
fn later(version: &'static str) -> crate::guests::Guest {
    let mut guest = honest();
    guest.version = version;
    let more = "interface weather { is-raining: func() -> bool; }\n\n/// Fills the slot `reward`";
    guest.wit =
        WIT.replace("policy@1.0.0", &format!("policy@{version}")).replacen("/// Fills the slot `reward`", more, 1);
    guest
}

#[test]
fn a_newer_policy_that_offers_more_is_loaded_and_not_asked_for_it() {
    let mut guest = later("1.1.0");
    guest.imports = "export pingward:policy/weather@1.1.0;";
    guest.more = r#"(func (export "pingward:policy/weather@1.1.0#is-raining") (result i32) (i32.const 1))"#.into();
    let admitted = guest.admit().unwrap();
    assert_eq!(judge(&admitted.policy, "{}").unwrap().standing, [0; 15]);
    let seen = inspect(engine(), &guest.build(), "{}", &limits()).unwrap();
    assert_eq!((seen.wit_version.as_deref(), seen.wit_versions), (Some("1.1.0"), "1.0.x"));
}

#[test]
fn a_newer_policy_that_needs_more_is_refused_with_both_versions() {
    let mut guest = later("1.1.0");
    guest.imports = "import pingward:policy/weather@1.1.0;";
    guest.head = r#"(import "pingward:policy/weather@1.1.0" "is-raining" (func $is-raining (result i32)))"#.into();
    let refused = guest.admit().unwrap_err().to_string();
    for words in ["`pingward:policy/weather@1.1.0#is-raining`", "version 1.1.0", "runs 1.0.x", "newer release"] {
        assert!(refused.contains(words), "{refused}\nlacks: {words}");
    }
}

#[test]
fn a_policy_of_another_major_is_refused_with_both_versions() {
    for version in ["2.0.0", "0.1.0", "10.0.0"] {
        let refused = later(version).admit().unwrap_err().to_string();
        for words in [&format!("version {version}"), "runs 1.0.x", "wit/policy.wit of this release"] {
            assert!(refused.contains(words), "{refused}\nlacks: {words}");
        }
    }
}
