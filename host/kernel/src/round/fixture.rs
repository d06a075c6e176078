//! A small cluster for tests of this room: seats, members, and partial reports that say nothing yet.

use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::command::{Ip, Super};
use crate::envelope::{PARTIAL_TYPE, pae};
use crate::id::{ClusterId, Genesis, MemberNumber, NodeId, ProtocolVersion, Signature};
use crate::members::{Hot, Member, Place, Profile};
use crate::state::State;

pub(crate) fn key(seat: u8) -> SigningKey {
    SigningKey::from_bytes(&[seat + 1; 32])
}

pub(crate) fn row(seat: u8) -> SeatRow {
    SeatRow {
        seat: Seat(seat),
        holder: Super {
            node: NodeId(key(seat).verifying_key().to_bytes()),
            name: String::new(),
            address: String::new(),
        },
        came: true,
        open_since_ms: 1,
        grace_until: RoundId(0),
        load_rounds: 0,
        from: RoundId(0),
    }
}

pub(crate) fn node(i: u8) -> NodeId {
    NodeId([i; 32])
}

pub(crate) fn profile(number: u32) -> Profile {
    Profile {
        number: MemberNumber(number),
        name: String::new(),
        version: ProtocolVersion::OURS,
        software: String::new(),
        ip: Ip::V4([127, 0, 0, 1]),
        port: 1,
        address: None,
        rest: None,
        joined: RoundId(0),
        joined_ms: 0,
        class: 0,
        group: 0,
        goodbyes: Vec::new(),
        reason: String::new(),
        decided_by: None,
        claim: None,
        hellos: (RoundId(0), 0),
    }
}

/// A cluster that settled round 9 in term 1, with these seats and so many members in the queue, all up and asked by all.
pub(crate) fn state(seats: u8, members: u8) -> State {
    let mut state = State::default();
    state.meta.cluster = ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) };
    state.meta.seats = (0..seats).map(row).collect();
    state.meta.term = Term(1);
    state.meta.settled = RoundId(9);
    state.meta.settled_term = Term(1);
    state.meta.trusted = RoundId(9);
    for i in 0..members {
        let mut member = Member::new(profile(i.into()));
        member.hot = Hot {
            place: Place::Queued,
            presence: Presence::Up,
            trusted_up: true,
            asked_seats: ((1_u16 << seats) - 1) as u8,
            ..Hot::default()
        };
        state.numbers.insert(MemberNumber(i.into()), node(i));
        state.members.insert(node(i), member);
    }
    requeue(&mut state);
    state
}

/// Derives the queue from the members' places.
pub(crate) fn requeue(state: &mut State) {
    state.queue = state.queued().map(|(node, _)| *node).collect();
}

pub(crate) const OPEN: OpenRound = OpenRound { round: RoundId(10), term: Term(1), base: RoundId(9) };

pub(crate) fn partial(seat: u8, len: usize) -> Partial {
    Partial {
        cluster: ClusterId { id: "lab".into(), genesis: Genesis([7; 16]) }.to_string(),
        open: OPEN,
        seat: Seat(seat),
        asked: Bits::zeros(len),
        seen: Bits::zeros(len),
        void: Bits::zeros(len),
        facts: Vec::new(),
        rtt: vec![0; len],
        data: Vec::new(),
        addresses: Vec::new(),
        returns: Bits::zeros(len),
        lag_ms: 0,
        open_since_ms: 1,
        open_all_round: true,
        refused: 0,
        secret: [seat; 16],
        spread_ms: 1_000,
    }
}

/// A partial report from one letter a member: `s`een, `m`issed, `v`oid, anything else nothing.
pub(crate) fn says(seat: u8, said: &str) -> Partial {
    let mut partial = partial(seat, said.len());
    for (at, letter) in said.chars().enumerate() {
        match letter {
            's' => {
                partial.asked.set(at);
                partial.seen.set(at);
            }
            'm' => partial.asked.set(at),
            'v' => partial.void.set(at),
            _ => {}
        }
    }
    partial
}

pub(crate) fn sign(partial: &Partial) -> SignedPartial {
    let key = key(partial.seat.0);
    let payload = partial.payload();
    let signature = Signature(key.sign(&pae(PARTIAL_TYPE, &payload)).to_bytes());
    SignedPartial { signer: NodeId(key.verifying_key().to_bytes()), payload, signature }
}

/// Presence in one letter a member: `u`p, `d`own, `?`.
pub(crate) fn letters(report: &Report) -> String {
    (0..report.len())
        .map(|at| match report.presence(at) {
            Presence::Up => 'u',
            Presence::Down => 'd',
            Presence::Unknown => '?',
        })
        .collect()
}
