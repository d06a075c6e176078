//! What is written is read back; what comes in is bounded or malformed; and the bytes stay what they are.

use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use kernel::decide::Slot;
use kernel::id::{Digest, LogIndex};

use super::*;
use crate::message::{
    POLICY_NAME_BYTES, POLICY_VERSION_BYTES, Policies, PolicyName, ScheduledKind, ScheduledPolicy, SlotPolicies,
};

/// A usable key (RFC 8032, first test vector).
const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const CLUSTER: &str = "lab#000102030405060708090a0b0c0d0e0f";

fn key() -> NodeId {
    KEY.parse().unwrap()
}

fn a_version() -> impl Strategy<Value = ProtocolVersion> {
    any::<(u16, u16)>().prop_map(|(major, minor)| ProtocolVersion { major, minor })
}

fn a_ping() -> impl Strategy<Value = Ping> {
    any::<(u64, u64, u64)>().prop_map(|(round, term, nonce)| Ping { round: RoundId(round), term: Term(term), nonce })
}

fn a_pong() -> impl Strategy<Value = Pong> {
    (a_ping(), a_version(), any::<u64>(), "[ -~]{0,64}").prop_map(|(ping, version, data, address)| Pong {
        round: ping.round,
        term: ping.term,
        nonce: ping.nonce,
        version,
        data,
        address,
    })
}

fn a_hello() -> impl Strategy<Value = Hello> {
    let role = prop_oneof![Just(Role::Follower), Just(Role::Validator), Just(Role::Super), Just(Role::Bootstrap)];
    let texts = ("[ -~]{0,65}", "[ -~]{0,64}", "[ -~]{0,64}", option::of("[ -~]{0,64}"));
    (role, texts, a_version(), any::<u16>()).prop_map(|(role, (cluster, name, software, rest), version, port)| Hello {
        cluster,
        role,
        name,
        version,
        software,
        port,
        rest,
    })
}

fn anything_of_a_follower() -> impl Strategy<Value = FromFollower> {
    prop_oneof![
        a_hello().prop_map(FromFollower::Hello),
        a_pong().prop_map(FromFollower::Pong),
        a_ping().prop_map(FromFollower::Ping),
        Just(FromFollower::Goodbye),
        Just(FromFollower::Return),
        Just(FromFollower::Alive),
    ]
}

fn a_cluster() -> impl Strategy<Value = ClusterId> {
    ("[a-z0-9-]{1,32}", any::<[u8; 16]>())
        .prop_map(|(id, genesis)| ClusterId { id, genesis: kernel::id::Genesis(genesis) })
}

fn a_text() -> impl Strategy<Value = String> {
    "[ -~äß→]{0,130}"
}

fn a_refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        a_cluster().prop_map(|ours| Refusal::WrongCluster { ours: ours.to_string() }),
        a_text().prop_map(|accept| Refusal::Outdated { accept }),
        (any::<(u64, u64)>(), a_text()).prop_map(|((until, until_ms), reason)| Refusal::Banned {
            until: RoundId(until),
            until_ms,
            reason
        }),
        any::<(u16, u16)>().prop_map(|(declared, seen)| Refusal::PortMismatch { declared, seen }),
        Just(Refusal::PortTaken),
        any::<u64>().prop_map(|retry_ms| Refusal::Busy { retry_ms }),
        (a_text(), any::<u64>()).prop_map(|(what, retry_ms)| Refusal::Full { what, retry_ms }),
        any::<u64>().prop_map(|retry_ms| Refusal::SlowDown { retry_ms }),
        Just(Refusal::WrongRole),
        a_text().prop_map(|what| Refusal::Malformed { what }),
    ]
}

fn an_own_line() -> impl Strategy<Value = Own> {
    let presence = prop_oneof![Just(Presence::Up), Just(Presence::Down), Just(Presence::Unknown)];
    let standing = prop_oneof![
        Just(Standing::Good),
        Just(Standing::Warned),
        Just(Standing::Suspended),
        Just(Standing::Banned),
        Just(Standing::Probation)
    ];
    let numbers = any::<(u64, i64, i64, Option<u64>, Option<u64>)>();
    (presence, standing, numbers, a_text(), option::of(a_text())).prop_map(
        |(presence, standing, (round, earned, wallet, until, until_ms), reason, warning)| Own {
            told: Told {
                node: key(),
                round: RoundId(round),
                presence,
                standing,
                reason,
                earned: Points(earned),
                wallet: Points(wallet),
                until: until.map(RoundId),
            },
            until_ms,
            warning,
        },
    )
}

fn a_policy_name() -> impl Strategy<Value = PolicyName> {
    (any::<[u8; 32]>(), "[ -~äß]{0,64}", "[ -~äß]{0,32}").prop_map(|(digest, name, version)| PolicyName {
        digest: Digest(digest),
        name,
        version,
    })
}

fn a_scheduled_policy() -> impl Strategy<Value = ScheduledPolicy> {
    let kinds = [ScheduledKind::Scheduled, ScheduledKind::Returned, ScheduledKind::Emergency];
    (option::of(a_policy_name()), any::<u64>(), option::of(prop::sample::select(kinds.to_vec())))
        .prop_map(|(policy, round, kind)| ScheduledPolicy { policy, round: RoundId(round), kind })
}

fn policies() -> impl Strategy<Value = Policies> {
    let slots = prop::sample::subsequence(Slot::ALL.to_vec(), 0..=Slot::ALL.len());
    let of_slot = || (option::of(a_policy_name()), option::of(a_scheduled_policy()));
    (any::<(u64, u64)>(), slots, [of_slot(), of_slot()]).prop_map(|((as_of, settled), slots, of)| Policies {
        as_of: LogIndex(as_of),
        settled: RoundId(settled),
        slots: slots
            .into_iter()
            .zip(of)
            .map(|(slot, (active, scheduled))| SlotPolicies { slot, active, scheduled })
            .collect(),
    })
}

fn a_welcome() -> impl Strategy<Value = Welcome> {
    let supers = proptest::collection::vec("[ -~]{0,259}", 0..=SUPERS);
    (a_cluster(), any::<bool>(), any::<[u64; 5]>(), supers, option::of(policies())).prop_map(
        |(cluster, led, [a, b, c, d, e], supers, policies)| Welcome {
            cluster,
            leader: led.then(key),
            interval_ms: a,
            timeout_ms: b,
            settings_version: c,
            reconnect_spread_ms: d,
            backoff_cap_ms: e,
            supers: supers.into_iter().map(|address| SuperAt { key: key(), address }).collect(),
            observers: e as u32,
            set_version: e,
            policies,
        },
    )
}

fn anything_of_a_super() -> impl Strategy<Value = ToFollower> {
    prop_oneof![
        a_welcome().prop_map(ToFollower::Welcome),
        a_refusal().prop_map(ToFollower::Refused),
        a_ping().prop_map(ToFollower::Ping),
        any::<u64>().prop_map(|nonce| ToFollower::Pong { nonce }),
        an_own_line().prop_map(ToFollower::Own),
        Just(ToFollower::Alive),
    ]
}

proptest! {
    #[test]
    fn what_a_follower_says_is_read_as_it_was_meant(said in anything_of_a_follower()) {
        let bytes = from_follower_pb(said.clone()).unwrap().encode_to_vec();
        prop_assert!(bytes.len() <= crate::codec::MESSAGE_BYTES);
        prop_assert_eq!(from_follower(pb::FromFollower::decode(&*bytes).unwrap()), said);
    }

    #[test]
    fn what_a_super_says_is_read_as_it_was_meant(said in anything_of_a_super()) {
        let bytes = to_follower_pb(said.clone()).encode_to_vec();
        prop_assert!(bytes.len() <= crate::codec::MESSAGE_BYTES);
        prop_assert_eq!(to_follower(pb::ToFollower::decode(&*bytes).unwrap(), key()), Ok(said));
    }

    #[test]
    fn a_bent_message_is_malformed_or_within_its_bounds(
        said in anything_of_a_follower(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut bytes = from_follower_pb(said).unwrap().encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let read = from_follower(pb::FromFollower::decode(&*bytes).unwrap_or_default());
        if let FromFollower::Pong(pong) = &read {
            prop_assert!(is_printable(&pong.address, PONG_ADDRESS_CHARS));
        }
        if let FromFollower::Hello(hello) = &read {
            prop_assert!(is_printable(&hello.cluster, CLUSTER_BYTES) && is_printable(&hello.name, NAME_BYTES));
        }
    }

    #[test]
    fn no_bytes_bring_the_reader_down(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _read = from_follower(pb::FromFollower::decode(&*bytes).unwrap_or_default());
        let _read = to_follower(pb::ToFollower::decode(&*bytes).unwrap_or_default(), key());
    }

    #[test]
    fn whatever_a_reason_is_the_other_side_can_read_it(reason in any::<String>()) {
        let banned = Refusal::Banned { until: RoundId(1), until_ms: 1, reason };
        let read = to_follower(to_follower_pb(ToFollower::Refused(banned)), key());
        prop_assert!(matches!(read, Ok(ToFollower::Refused(Refusal::Banned { .. }))), "{:?}", read);
    }
}

#[test]
fn what_does_not_fit_is_malformed_and_says_why() {
    let pong = || pb::Pong { version: Some(pb::Version { major: 0, minor: 1 }), ..pb::Pong::default() };
    let hello = || pb::Hello { version: Some(pb::Version { major: 0, minor: 1 }), role: 1, ..pb::Hello::default() };
    for (what, why) in [
        (None, "no message that is known here"),
        (Some(From_::Pong(pb::Pong { version: None, ..pong() })), "no protocol version"),
        (
            Some(From_::Pong(pb::Pong { address: "a".repeat(65), ..pong() })),
            "an address of more than 64 printable characters",
        ),
        (
            Some(From_::Pong(pb::Pong { address: "a\nb".into(), ..pong() })),
            "an address of more than 64 printable characters",
        ),
        (Some(From_::Hello(pb::Hello { role: 0, ..hello() })), "a hello without a role"),
        (Some(From_::Hello(pb::Hello { role: 77, ..hello() })), "a hello without a role"),
        (Some(From_::Hello(pb::Hello { port: 65_536, ..hello() })), "a port above 65535"),
        (Some(From_::Hello(pb::Hello { name: "n".repeat(65), ..hello() })), "a name that is far too long"),
        (
            Some(From_::Hello(pb::Hello { version: Some(pb::Version { major: 65_536, minor: 0 }), ..hello() })),
            "a protocol version above 65535",
        ),
    ] {
        assert_eq!(from_follower(pb::FromFollower { what }), FromFollower::Malformed(Malformed(why)));
    }
    let short = pb::Welcome { cluster: CLUSTER.into(), leader: Some(vec![1; 31]), ..pb::Welcome::default() };
    let weak = pb::Welcome { cluster: CLUSTER.into(), leader: Some(vec![0; 32]), ..pb::Welcome::default() };
    for welcome in [short, weak] {
        let read = to_follower(pb::ToFollower { what: Some(To::Welcome(welcome)) }, key());
        assert_eq!(read, Err(Malformed("a leader that is no key")));
    }
}

/// What a follower makes of a welcome with these rules.
fn told(policies: Option<pb::Policies>) -> Result<Option<Policies>, Malformed> {
    let welcome = pb::Welcome { cluster: CLUSTER.into(), policies, ..pb::Welcome::default() };
    let read = to_follower(pb::ToFollower { what: Some(To::Welcome(welcome)) }, key())?;
    let ToFollower::Welcome(welcome) = read else { panic!("{read:?}") };
    Ok(welcome.policies)
}

fn one_policy() -> pb::PolicyName {
    pb::PolicyName { digest: vec![7; 32], name: "ban-strikes".into(), version: "0.2.0".into() }
}

fn one_slot() -> pb::SlotPolicies {
    let scheduled = pb::ScheduledPolicy { policy: Some(one_policy()), round: 12, kind: 1 };
    pb::SlotPolicies { slot: pb::Slot::Ban.into(), active: Some(one_policy()), scheduled: Some(scheduled) }
}

fn of_slots(slots: Vec<pb::SlotPolicies>) -> Option<pb::Policies> {
    Some(pb::Policies { as_of: 5, settled: 10, slots })
}

#[test]
fn rules_that_do_not_fit_are_malformed_and_say_why() {
    assert!(told(of_slots(vec![one_slot()])).unwrap().is_some(), "the one that the others are bent from");
    let name = |bend: &dyn Fn(&mut pb::PolicyName)| {
        let mut policy = one_policy();
        bend(&mut policy);
        policy
    };
    let digest = "a policy that is no digest";
    let long_name = "a policy's name that is too long or not printable";
    let long_version = "a policy's version that is too long or not printable";
    for (policy, why) in [
        (name(&|policy| policy.digest = vec![7; 31]), digest),
        (name(&|policy| policy.digest = Vec::new()), digest),
        (name(&|policy| policy.name = "n".repeat(POLICY_NAME_BYTES + 1)), long_name),
        (name(&|policy| policy.name = "a\nWARN b".into()), long_name),
        (name(&|policy| policy.name = "a\u{1b}[31m".into()), long_name),
        (name(&|policy| policy.name = "a\u{202e}b".into()), long_name),
        (name(&|policy| policy.version = "1".repeat(POLICY_VERSION_BYTES + 1)), long_version),
        (name(&|policy| policy.version = "1\u{7}".into()), long_version),
    ] {
        let active = pb::SlotPolicies { active: Some(policy.clone()), ..one_slot() };
        let scheduled = pb::ScheduledPolicy { policy: Some(policy), round: 12, kind: 1 };
        let scheduled = pb::SlotPolicies { scheduled: Some(scheduled), ..one_slot() };
        for slot in [active, scheduled] {
            assert_eq!(told(of_slots(vec![slot])), Err(Malformed(why)));
        }
    }
    assert_eq!(told(of_slots(vec![one_slot(), one_slot()])), Err(Malformed("a slot that is named twice")));
    let unknown = pb::SlotPolicies { slot: 77, ..one_slot() };
    assert_eq!(told(of_slots(vec![unknown; 9])), Err(Malformed("more slots than there are")));
}

#[test]
fn what_an_older_or_a_newer_release_says_of_rules_costs_no_stream() {
    assert_eq!(told(None), Ok(None), "one that does not say them");
    let unknown = pb::SlotPolicies { slot: 77, ..one_slot() };
    let scheduled = pb::ScheduledPolicy { policy: None, round: 12, kind: 77 };
    let odd = pb::SlotPolicies { scheduled: Some(scheduled), ..one_slot() };
    let policies = told(of_slots(vec![unknown, odd])).unwrap().unwrap();
    let slots: Vec<Slot> = policies.slots.iter().map(|slot| slot.slot).collect();
    assert_eq!(slots, [Slot::Ban], "a slot that is not known here is passed over");
    let expected = ScheduledPolicy { policy: None, round: RoundId(12), kind: None };
    assert_eq!(policies.slots[0].scheduled, Some(expected));
}

#[test]
fn whatever_its_author_calls_a_rule_a_follower_can_read_it() {
    for (name, shown) in [
        ("ban\nrule", "ban?rule".to_owned()),
        ("\u{202e}nab", "?nab".into()),
        (&"规".repeat(64), "规".repeat(POLICY_NAME_BYTES / 3)),
    ] {
        let policy = PolicyName { digest: Digest([7; 32]), name: name.into(), version: name.into() };
        let slot = SlotPolicies { slot: Slot::Reward, active: Some(policy), scheduled: None };
        let policies = Policies { as_of: LogIndex(5), settled: RoundId(10), slots: vec![slot] };
        let read = told(Some(policies::write(policies))).unwrap().unwrap();
        assert_eq!(read.slots[0].active.as_ref().unwrap().name, shown);
    }
}

/// Nodes of different releases talk to each other: a change of these bytes is a decision.
#[test]
fn the_bytes_on_the_wire_are_these() {
    let ping = Ping { round: RoundId(7), term: Term(2), nonce: 0x0102_0304_0506_0708 };
    let hello = Hello {
        cluster: CLUSTER.into(),
        role: Role::Follower,
        name: "f-1".into(),
        version: ProtocolVersion { major: 0, minor: 1 },
        software: "0.1.0".into(),
        port: 7101,
        rest: Some("a:1".into()),
    };
    let pong = Pong {
        round: ping.round,
        term: ping.term,
        nonce: ping.nonce,
        version: hello.version,
        data: 300,
        address: "a:1".into(),
    };
    let cluster = "6c6162233030303130323033303430353036303730383039306130623063306430653066";
    for (said, hex) in [
        (FromFollower::Hello(hello), format!("0a400a24{cluster}10011a03662d31220210012a05302e312e3030bd373a03613a31")),
        (FromFollower::Pong(pong), "1219080710021908070605040302012202100128ac023203613a31".into()),
        (FromFollower::Ping(ping), "1a0d08071002190807060504030201".into()),
        (FromFollower::Goodbye, "2200".into()),
        (FromFollower::Return, "2a00".into()),
        (FromFollower::Alive, "3200".into()),
    ] {
        assert_eq!(hex_of(&from_follower_pb(said.clone()).unwrap().encode_to_vec()), hex, "{said:?}");
    }
    let told = Told {
        node: key(),
        round: RoundId(7),
        presence: Presence::Down,
        standing: Standing::Suspended,
        reason: "m".into(),
        earned: Points(-1),
        wallet: Points(5),
        until: Some(RoundId(9)),
    };
    let welcome = Welcome {
        cluster: CLUSTER.parse().unwrap(),
        leader: Some(key()),
        interval_ms: 1_000,
        timeout_ms: 250,
        settings_version: 3,
        reconnect_spread_ms: 1_000,
        backoff_cap_ms: 1_500,
        supers: vec![SuperAt { key: key(), address: "a:1".into() }],
        observers: 2,
        set_version: 7,
        policies: None,
    };
    let policy = |seed, name: &str| PolicyName { digest: Digest([seed; 32]), name: name.into(), version: "1".into() };
    let scheduled =
        ScheduledPolicy { policy: Some(policy(9, "s")), round: RoundId(12), kind: Some(ScheduledKind::Returned) };
    let slots = vec![
        SlotPolicies { slot: Slot::Reward, active: None, scheduled: None },
        SlotPolicies { slot: Slot::Ban, active: Some(policy(8, "b")), scheduled: Some(scheduled) },
    ];
    let policies = Policies { as_of: LogIndex(300), settled: RoundId(10), slots };
    let announcing = Welcome { supers: Vec::new(), policies: Some(policies), ..welcome.clone() };
    let (active, scheduled) = ("08".repeat(32), "09".repeat(32));
    for (said, hex) in [
        (
            ToFollower::Welcome(welcome),
            format!("0a83010a24{cluster}1220{KEY}18e80720fa01280330e80738dc0b42270a20{KEY}1203613a3148025807"),
        ),
        (
            ToFollower::Welcome(announcing),
            format!(
                "0ac3010a24{cluster}1220{KEY}18e80720fa01280330e80738dc0b48025267\
                 08ac02100a1a0208011a5c0802\
                 12280a20{active}1201621a0131\
                 1a2e0a280a20{scheduled}1201731a0131100c18025807"
            ),
        ),
        (
            ToFollower::Refused(Refusal::Banned { until: RoundId(9), until_ms: 10, reason: "m".into() }),
            "12091a070809100a1a016d".into(),
        ),
        (ToFollower::Ping(ping), "1a0d08071002190807060504030201".into()),
        (ToFollower::Pong { nonce: ping.nonce }, "2209090807060504030201".into()),
        (ToFollower::Alive, "3200".into()),
        (
            ToFollower::Own(Own { told, until_ms: Some(10), warning: Some("w".into()) }),
            "2a1408071002180322016d2801300a3809400a4a0177".into(),
        ),
    ] {
        assert_eq!(hex_of(&to_follower_pb(said.clone()).encode_to_vec()), hex, "{said:?}");
    }
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
