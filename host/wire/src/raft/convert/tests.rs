//! What is written is read back, and what comes in is bounded or malformed.

use kernel::id::ClusterId;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;

fn through<T: Message + Default>(message: &T) -> T {
    T::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn a_key() -> NodeId {
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().unwrap()
}

fn a_place() -> impl Strategy<Value = Place> {
    any::<(u64, u64)>().prop_map(|(term, index)| Place { term, index })
}

fn a_vote() -> impl Strategy<Value = Vote> {
    any::<(u64, u64, bool)>().prop_map(|(term, replica, committed)| Vote { term, replica, committed })
}

fn a_route() -> impl Strategy<Value = Route> {
    any::<(u64, u64)>().prop_map(|(from, to)| Route { from, to })
}

proptest! {
    #[test]
    fn what_replicas_say_is_read_back(
        route in a_route(), v in a_vote(), w in a_vote(), at in option::of(a_place()), then in option::of(a_place()),
        place in a_place(), flag in any::<bool>(), number in any::<u64>(), bytes in vec(vec(any::<u8>(), 0..9), 0..5),
    ) {
        let ours = Append { route, vote: v, previous: at, committed: then, entries: bytes.clone() };
        prop_assert_eq!(append(through(&append_pb(ours.clone()))), Ok(ours));
        for ours in [Appended::Matching(at), Appended::Conflict(place), Appended::Higher(v)] {
            prop_assert_eq!(appended(through(&appended_pb(ours))), Ok(ours));
        }
        let ours = VoteRequest { route, vote: v, last: at, hand_over: flag };
        prop_assert_eq!(vote_request(through(&vote_request_pb(ours))), Ok(ours));
        let ours = VoteAnswer { vote: v, granted: flag, last: at };
        prop_assert_eq!(vote_answer(through(&vote_answer_pb(ours))), Ok(ours));
        let ours = HandOver { route, vote: v, to: number, last: at };
        prop_assert_eq!(hand_over(through(&hand_over_pb(ours))), Ok(ours));
        let changed_vote = HandedOver::VoteChanged { expected: v, actual: w };
        for ours in [HandedOver::Taken, changed_vote, HandedOver::NotFlushed { expected: at, actual: then }] {
            prop_assert_eq!(handed_over(through(&handed_over_pb(ours))), Ok(ours));
        }
        let head = SnapshotHead { route, vote: v, mark: vec![1, 2] };
        for ours in [SnapshotPart::Head(head), SnapshotPart::Piece(vec![7; 9])] {
            prop_assert_eq!(snapshot_part(through(&snapshot_part_pb(ours.clone()))), Ok(ours));
        }
        prop_assert_eq!(snapshot_answer(through(&snapshot_answer_pb(v))), Ok(v));
        prop_assert_eq!(read_index(through(&read_index_pb(route))), Ok(route));
        for ours in [Led::Answer(at), Led::NotLeader(Some(number)), Led::NotLeader(None)] {
            prop_assert_eq!(read_until(through(&read_until_pb(ours.clone()))), Ok(ours));
        }
        let ours = Forward { route, commands: bytes.clone() };
        prop_assert_eq!(forward(through(&forward_pb(ours.clone()))), Ok(ours));
        let answers = vec![Answer::Accepted(vec![1]), Answer::Refused(vec![]), Answer::Unknown];
        for ours in [Led::Answer(answers), Led::NotLeader(Some(number))] {
            prop_assert_eq!(forwarded(through(&forwarded_pb(ours.clone())), 3), Ok(ours));
        }
    }

    #[test]
    fn what_operators_change_is_read_back(route in a_route(), number in any::<u64>(), text in "[ -~]{0,200}") {
        let add = Change::Add { key: a_key(), address: text.clone() };
        for ours in [add, Change::Promote(a_key()), Change::Remove(a_key())] {
            for only_at in [None, Some(number)] {
                let asked = through(&change_pb(route, ours.clone(), only_at));
                prop_assert_eq!(change(asked), Ok((route, ours.clone(), only_at)));
            }
        }
        let refused = Changed::Refused { code: "quorum".into(), detail: text.clone() };
        for ours in [Changed::Done(number), refused, Changed::Unknown] {
            prop_assert_eq!(changed(through(&changed_pb(Led::Answer(ours.clone())))), Ok(Led::Answer(ours)));
        }
        let cluster: ClusterId = "lab#000102030405060708090a0b0c0d0e0f".parse().unwrap();
        for known in [false, true] {
            let ours = Invite { cluster: cluster.clone(), replica: number, known };
            prop_assert_eq!(invite(&through(&invite_pb(&ours))), Ok(ours));
        }
        let name = text.chars().take(NAME_BYTES).collect();
        for ours in [Ok(Invited { name, life: number }), Err(text)] {
            prop_assert_eq!(invited(through(&invited_pb(ours.clone()))), Ok(ours));
        }
    }

    #[test]
    fn any_bytes_are_read_or_malformed(bytes in vec(any::<u8>(), 0..300)) {
        let _ = pb::Append::decode(bytes.as_slice()).map(append);
        let _ = pb::SnapshotPart::decode(bytes.as_slice()).map(snapshot_part);
        let _ = pb::ChangeRequest::decode(bytes.as_slice()).map(change);
        let _ = pb::ForwardAnswer::decode(bytes.as_slice()).map(|answer| forwarded(answer, 1));
    }
}

#[test]
fn what_is_beyond_its_bound_is_malformed() {
    let (route, vote) = (Route { from: 1, to: 2 }, Vote { term: 1, replica: 1, committed: true });
    let entries = vec![vec![]; APPEND_ENTRIES + 1];
    assert!(append(append_pb(Append { route, vote, previous: None, committed: None, entries })).is_err());
    let commands = vec![vec![]; FORWARD_COMMANDS + 1];
    assert!(forward(forward_pb(Forward { route, commands })).is_err());
    let (piece, mark) = (vec![0; PIECE_BYTES + 1], vec![0; MARK_BYTES + 1]);
    assert!(snapshot_part(snapshot_part_pb(SnapshotPart::Piece(piece))).is_err());
    let head = SnapshotHead { route, vote, mark };
    assert!(snapshot_part(snapshot_part_pb(SnapshotPart::Head(head))).is_err());
    let add = Change::Add { key: a_key(), address: "a".repeat(ADDRESS_BYTES + 1) };
    assert!(change(change_pb(route, add, None)).is_err());
    assert!(change(change_pb(route, Change::Promote(NodeId([0; 32])), None)).is_err(), "no usable key");
    let two = forwarded_pb(Led::Answer(vec![Answer::Unknown, Answer::Unknown]));
    assert!(forwarded(two, 3).is_err(), "an answer is missing");
}

#[test]
fn an_empty_message_is_malformed_everywhere() {
    assert!(append(pb::Append::default()).is_err());
    assert!(appended(pb::Appended::default()).is_err());
    assert!(vote_request(pb::VoteRequest::default()).is_err());
    assert!(vote_answer(pb::VoteAnswer::default()).is_err());
    assert!(hand_over(pb::HandOverRequest::default()).is_err());
    assert!(handed_over(pb::HandOverAnswer::default()).is_err());
    assert!(snapshot_part(pb::SnapshotPart::default()).is_err());
    assert!(snapshot_answer(pb::SnapshotAnswer::default()).is_err());
    assert!(forward(pb::ForwardRequest::default()).is_err());
    assert!(forwarded(pb::ForwardAnswer::default(), 0).is_err());
    assert!(read_index(pb::ReadIndexRequest::default()).is_err());
    assert!(read_until(pb::ReadIndexAnswer::default()).is_err());
    assert!(change(pb::ChangeRequest::default()).is_err());
    assert!(changed(pb::ChangeAnswer::default()).is_err());
    assert!(invite(&pb::InviteRequest::default()).is_err());
    assert!(invited(pb::InviteAnswer::default()).is_err());
}

#[test]
fn a_refusal_is_told_within_its_bound() {
    let long = "\u{202e}é".repeat(4_000);
    let refused = changed_pb(Led::Answer(Changed::Refused { code: "quorum".into(), detail: long.clone() }));
    let Ok(Led::Answer(Changed::Refused { detail, .. })) = changed(refused) else { panic!("not readable") };
    assert_eq!(detail, "?".repeat(DETAIL_BYTES));
    assert!(invited(invited_pb(Err(long.clone()))).unwrap().is_err());
    assert_eq!(invited(invited_pb(Ok(Invited { name: long, life: 1 }))).unwrap().unwrap().name, "?".repeat(NAME_BYTES));
}
