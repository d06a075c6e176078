//! Protobuf of the group to plain types and back. What is beyond a bound or misses a part is [`Malformed`].

use kernel::id::NodeId;
use kernel::limits::REASON_BYTES;
use kernel::members::is_printable;

use super::{
    ADDRESS_BYTES, APPEND_ENTRIES, Answer, Append, Appended, COMMAND_BYTES, Change, Changed, ENTRY_BYTES,
    FORWARD_COMMANDS, Forward, HandOver, HandedOver, Invite, Invited, Led, MARK_BYTES, NAME_BYTES, PIECE_BYTES, Place,
    Route, SnapshotHead, SnapshotPart, Vote, VoteAnswer, VoteRequest,
};
use crate::message::Malformed;
use crate::pb;

/// A refusal's text: a sentence with numbers and a cure.
const DETAIL_BYTES: usize = 8 * REASON_BYTES;
/// A word.
const CODE_BYTES: usize = 32;

/// Reads an append.
///
/// # Errors
/// [`Malformed`].
pub fn append(from: pb::Append) -> Result<Append, Malformed> {
    if from.entries.len() > APPEND_ENTRIES {
        return Err(Malformed("an append with too many entries"));
    }
    if from.entries.iter().any(|entry| entry.len() > ENTRY_BYTES) {
        return Err(Malformed("an entry that is too long"));
    }
    Ok(Append {
        route: route(from.route)?,
        vote: vote(from.vote)?,
        previous: from.previous.map(place),
        committed: from.committed.map(place),
        entries: from.entries,
    })
}

/// Writes it.
#[must_use]
pub fn append_pb(from: Append) -> pb::Append {
    pb::Append {
        route: Some(route_pb(from.route)),
        vote: Some(vote_pb(from.vote)),
        previous: from.previous.map(place_pb),
        committed: from.committed.map(place_pb),
        entries: from.entries,
    }
}

/// Reads the answer.
///
/// # Errors
/// [`Malformed`].
pub fn appended(from: pb::Appended) -> Result<Appended, Malformed> {
    use pb::appended::What;
    Ok(match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Matching(matching) => Appended::Matching(matching.place.map(place)),
        What::Conflict(at) => Appended::Conflict(place(at)),
        What::Higher(higher) => Appended::Higher(vote(Some(higher))?),
    })
}

/// Writes it.
#[must_use]
pub fn appended_pb(from: Appended) -> pb::Appended {
    use pb::appended::{Matching, What};
    let what = match from {
        Appended::Matching(at) => What::Matching(Matching { place: at.map(place_pb) }),
        Appended::Conflict(at) => What::Conflict(place_pb(at)),
        Appended::Higher(higher) => What::Higher(vote_pb(higher)),
    };
    pb::Appended { what: Some(what) }
}

/// Reads a request for a vote.
///
/// # Errors
/// [`Malformed`].
pub fn vote_request(from: pb::VoteRequest) -> Result<VoteRequest, Malformed> {
    Ok(VoteRequest {
        route: route(from.route)?,
        vote: vote(from.vote)?,
        last: from.last.map(place),
        hand_over: from.hand_over,
    })
}

/// Writes it.
#[must_use]
pub fn vote_request_pb(from: VoteRequest) -> pb::VoteRequest {
    pb::VoteRequest {
        route: Some(route_pb(from.route)),
        vote: Some(vote_pb(from.vote)),
        last: from.last.map(place_pb),
        hand_over: from.hand_over,
    }
}

/// Reads the answer.
///
/// # Errors
/// [`Malformed`].
pub fn vote_answer(from: pb::VoteAnswer) -> Result<VoteAnswer, Malformed> {
    Ok(VoteAnswer { vote: vote(from.vote)?, granted: from.granted, last: from.last.map(place) })
}

/// Writes it.
#[must_use]
pub fn vote_answer_pb(from: VoteAnswer) -> pb::VoteAnswer {
    pb::VoteAnswer { vote: Some(vote_pb(from.vote)), granted: from.granted, last: from.last.map(place_pb) }
}

/// Reads the wish that another one leads.
///
/// # Errors
/// [`Malformed`].
pub fn hand_over(from: pb::HandOverRequest) -> Result<HandOver, Malformed> {
    Ok(HandOver { route: route(from.route)?, vote: vote(from.vote)?, to: from.to, last: from.last.map(place) })
}

/// Writes it.
#[must_use]
pub fn hand_over_pb(from: HandOver) -> pb::HandOverRequest {
    pb::HandOverRequest {
        route: Some(route_pb(from.route)),
        vote: Some(vote_pb(from.vote)),
        to: from.to,
        last: from.last.map(place_pb),
    }
}

/// Reads the answer.
///
/// # Errors
/// [`Malformed`].
pub fn handed_over(from: pb::HandOverAnswer) -> Result<HandedOver, Malformed> {
    use pb::hand_over_answer::What;
    Ok(match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Taken(_) => HandedOver::Taken,
        What::VoteChanged(votes) => {
            HandedOver::VoteChanged { expected: vote(votes.expected)?, actual: vote(votes.actual)? }
        }
        What::NotFlushed(places) => {
            HandedOver::NotFlushed { expected: places.expected.map(place), actual: places.actual.map(place) }
        }
    })
}

/// Writes it.
#[must_use]
pub fn handed_over_pb(from: HandedOver) -> pb::HandOverAnswer {
    use pb::hand_over_answer::{NotFlushed, Taken, VoteChanged, What};
    let what = match from {
        HandedOver::Taken => What::Taken(Taken {}),
        HandedOver::VoteChanged { expected, actual } => {
            What::VoteChanged(VoteChanged { expected: Some(vote_pb(expected)), actual: Some(vote_pb(actual)) })
        }
        HandedOver::NotFlushed { expected, actual } => {
            What::NotFlushed(NotFlushed { expected: expected.map(place_pb), actual: actual.map(place_pb) })
        }
    };
    pb::HandOverAnswer { what: Some(what) }
}

/// Reads a part of a snapshot's transfer.
///
/// # Errors
/// [`Malformed`].
pub fn snapshot_part(from: pb::SnapshotPart) -> Result<SnapshotPart, Malformed> {
    use pb::snapshot_part::What;
    Ok(match from.what.ok_or(Malformed("a part of a snapshot with nothing in it"))? {
        What::Head(head) => {
            if head.mark.len() > MARK_BYTES {
                return Err(Malformed("a snapshot of too many members"));
            }
            SnapshotPart::Head(SnapshotHead { route: route(head.route)?, vote: vote(head.vote)?, mark: head.mark })
        }
        What::Piece(piece) if piece.len() > PIECE_BYTES => {
            return Err(Malformed("a piece of a snapshot that is too long"));
        }
        What::Piece(piece) => SnapshotPart::Piece(piece),
    })
}

/// Writes it.
#[must_use]
pub fn snapshot_part_pb(from: SnapshotPart) -> pb::SnapshotPart {
    use pb::snapshot_part::{Head, What};
    let what = match from {
        SnapshotPart::Head(head) => {
            What::Head(Head { route: Some(route_pb(head.route)), vote: Some(vote_pb(head.vote)), mark: head.mark })
        }
        SnapshotPart::Piece(piece) => What::Piece(piece),
    };
    pb::SnapshotPart { what: Some(what) }
}

/// Reads the answer to a snapshot: whom the replica supports.
///
/// # Errors
/// [`Malformed`].
pub fn snapshot_answer(from: pb::SnapshotAnswer) -> Result<Vote, Malformed> {
    vote(from.vote)
}

/// Writes it.
#[must_use]
pub fn snapshot_answer_pb(from: Vote) -> pb::SnapshotAnswer {
    pb::SnapshotAnswer { vote: Some(vote_pb(from)) }
}

/// Reads forwarded commands.
///
/// # Errors
/// [`Malformed`].
pub fn forward(from: pb::ForwardRequest) -> Result<Forward, Malformed> {
    if from.commands.len() > FORWARD_COMMANDS {
        return Err(Malformed("too many commands in one call"));
    }
    if from.commands.iter().any(|command| command.len() > COMMAND_BYTES) {
        return Err(Malformed("a command that is too long"));
    }
    Ok(Forward { route: route(from.route)?, commands: from.commands })
}

/// Writes them.
#[must_use]
pub fn forward_pb(from: Forward) -> pb::ForwardRequest {
    pb::ForwardRequest { route: Some(route_pb(from.route)), commands: from.commands }
}

/// Reads the answers, which are as many as the commands.
///
/// # Errors
/// [`Malformed`].
pub fn forwarded(from: pb::ForwardAnswer, commands: usize) -> Result<Led<Vec<Answer>>, Malformed> {
    use pb::forward_answer::What;
    use pb::forward_answer::answer::What as One;
    let answers = match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Answers(answers) => answers.answers,
        What::NotLeader(not) => return Ok(Led::NotLeader(not.leader)),
    };
    if answers.len() != commands {
        return Err(Malformed("another number of answers than of commands"));
    }
    let one = |answer: pb::forward_answer::Answer| {
        Ok(match answer.what.ok_or(Malformed("an answer without a verdict"))? {
            One::Accepted(bytes) => Answer::Accepted(bytes),
            One::Refused(bytes) => Answer::Refused(bytes),
            One::Unknown(_) => Answer::Unknown,
        })
    };
    answers.into_iter().map(one).collect::<Result<_, _>>().map(Led::Answer)
}

/// Writes them.
#[must_use]
pub fn forwarded_pb(from: Led<Vec<Answer>>) -> pb::ForwardAnswer {
    use pb::forward_answer::answer::What as One;
    use pb::forward_answer::{Answer as OnePb, Answers, Unknown, What};
    let one = |answer| {
        let what = match answer {
            Answer::Accepted(bytes) => One::Accepted(bytes),
            Answer::Refused(bytes) => One::Refused(bytes),
            Answer::Unknown => One::Unknown(Unknown {}),
        };
        OnePb { what: Some(what) }
    };
    let what = match from {
        Led::Answer(answers) => What::Answers(Answers { answers: answers.into_iter().map(one).collect() }),
        Led::NotLeader(leader) => What::NotLeader(pb::NotLeader { leader }),
    };
    pb::ForwardAnswer { what: Some(what) }
}

/// Reads a question for the index of a read.
///
/// # Errors
/// [`Malformed`].
pub fn read_index(from: pb::ReadIndexRequest) -> Result<Route, Malformed> {
    route(from.route)
}

/// Writes it.
#[must_use]
pub fn read_index_pb(from: Route) -> pb::ReadIndexRequest {
    pb::ReadIndexRequest { route: Some(route_pb(from)) }
}

/// Reads the answer.
///
/// # Errors
/// [`Malformed`].
pub fn read_until(from: pb::ReadIndexAnswer) -> Result<Led<Option<Place>>, Malformed> {
    use pb::read_index_answer::What;
    Ok(match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Until(until) => Led::Answer(until.place.map(place)),
        What::NotLeader(not) => Led::NotLeader(not.leader),
    })
}

/// Writes it.
#[must_use]
pub fn read_until_pb(from: Led<Option<Place>>) -> pb::ReadIndexAnswer {
    use pb::read_index_answer::{Until, What};
    let what = match from {
        Led::Answer(until) => What::Until(Until { place: until.map(place_pb) }),
        Led::NotLeader(leader) => What::NotLeader(pb::NotLeader { leader }),
    };
    pb::ReadIndexAnswer { what: Some(what) }
}

/// Reads a change of the group, and where the last one must stand for it to count.
///
/// # Errors
/// [`Malformed`].
pub fn change(from: pb::ChangeRequest) -> Result<(Route, Change, Option<u64>), Malformed> {
    use pb::change_request::What;
    let change = match from.what.ok_or(Malformed("a change that is not known here"))? {
        What::Add(add) => Change::Add { key: key(&add.key)?, address: text(add.address, ADDRESS_BYTES)? },
        What::Promote(of) => Change::Promote(key(&of)?),
        What::Remove(of) => Change::Remove(key(&of)?),
    };
    Ok((route(from.route)?, change, from.only_at))
}

/// Writes it.
#[must_use]
pub fn change_pb(by: Route, from: Change, only_at: Option<u64>) -> pb::ChangeRequest {
    use pb::change_request::{Add, What};
    let what = match from {
        Change::Add { key, address } => What::Add(Add { key: key.0.to_vec(), address }),
        Change::Promote(key) => What::Promote(key.0.to_vec()),
        Change::Remove(key) => What::Remove(key.0.to_vec()),
    };
    pb::ChangeRequest { route: Some(route_pb(by)), what: Some(what), only_at }
}

/// Reads the answer.
///
/// # Errors
/// [`Malformed`].
pub fn changed(from: pb::ChangeAnswer) -> Result<Led<Changed>, Malformed> {
    use pb::change_answer::What;
    Ok(match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Replica(replica) => Led::Answer(Changed::Done(replica)),
        What::Refused(refused) => Led::Answer(Changed::Refused {
            code: text(refused.code, CODE_BYTES)?,
            detail: text(refused.detail, DETAIL_BYTES)?,
        }),
        What::NotLeader(not) => Led::NotLeader(not.leader),
        What::Unknown(_) => Led::Answer(Changed::Unknown),
    })
}

/// Writes it.
#[must_use]
pub fn changed_pb(from: Led<Changed>) -> pb::ChangeAnswer {
    use pb::change_answer::{Refused, Unknown, What};
    let what = match from {
        Led::Answer(Changed::Done(replica)) => What::Replica(replica),
        Led::Answer(Changed::Refused { code, detail }) => {
            What::Refused(Refused { code: cut(code, CODE_BYTES), detail: cut(detail, DETAIL_BYTES) })
        }
        Led::Answer(Changed::Unknown) => What::Unknown(Unknown {}),
        Led::NotLeader(leader) => What::NotLeader(pb::NotLeader { leader }),
    };
    pb::ChangeAnswer { what: Some(what) }
}

/// Reads an invitation.
///
/// # Errors
/// [`Malformed`].
pub fn invite(from: &pb::InviteRequest) -> Result<Invite, Malformed> {
    let cluster = from.cluster.parse().map_err(|_| Malformed("a cluster that is no id#genesis"))?;
    Ok(Invite { cluster, replica: from.replica, known: from.known })
}

/// Writes it.
#[must_use]
pub fn invite_pb(from: &Invite) -> pb::InviteRequest {
    pb::InviteRequest { cluster: from.cluster.to_string(), replica: from.replica, known: from.known }
}

/// Reads the answer: why not.
///
/// # Errors
/// [`Malformed`].
pub fn invited(from: pb::InviteAnswer) -> Result<Result<Invited, String>, Malformed> {
    use pb::invite_answer::What;
    Ok(match from.what.ok_or(Malformed("an answer without a verdict"))? {
        What::Accepted(accepted) => Ok(Invited { name: text(accepted.name, NAME_BYTES)?, life: accepted.life }),
        What::Refused(refused) => Err(text(refused.why, DETAIL_BYTES)?),
    })
}

/// Writes it.
#[must_use]
pub fn invited_pb(from: Result<Invited, String>) -> pb::InviteAnswer {
    use pb::invite_answer::{Accepted, Refused, What};
    let what = match from {
        Ok(invited) => What::Accepted(Accepted { name: cut(invited.name, NAME_BYTES), life: invited.life }),
        Err(why) => What::Refused(Refused { why: cut(why, DETAIL_BYTES) }),
    };
    pb::InviteAnswer { what: Some(what) }
}

const fn place(from: pb::LogPlace) -> Place {
    Place { term: from.term, index: from.index }
}

const fn place_pb(from: Place) -> pb::LogPlace {
    pb::LogPlace { term: from.term, index: from.index }
}

fn vote(from: Option<pb::LeaderVote>) -> Result<Vote, Malformed> {
    let vote = from.ok_or(Malformed("a message without a vote"))?;
    Ok(Vote { term: vote.term, replica: vote.replica, committed: vote.committed })
}

const fn vote_pb(from: Vote) -> pb::LeaderVote {
    pb::LeaderVote { term: from.term, replica: from.replica, committed: from.committed }
}

fn route(from: Option<pb::Route>) -> Result<Route, Malformed> {
    let route = from.ok_or(Malformed("a message without a route"))?;
    Ok(Route { from: route.from, to: route.to })
}

const fn route_pb(from: Route) -> pb::Route {
    pb::Route { from: from.from, to: from.to }
}

fn key(from: &[u8]) -> Result<NodeId, Malformed> {
    let bytes = from.try_into().map_err(|_| Malformed("a super that is no key"))?;
    NodeId::checked(bytes).map_err(|_| Malformed("a super that is no key"))
}

fn text(text: String, longest: usize) -> Result<String, Malformed> {
    if is_printable(&text, longest) { Ok(text) } else { Err(Malformed("a text that is too long or not printable")) }
}

/// What people are told, within its bound and of printable characters.
fn cut(text: String, longest: usize) -> String {
    text.chars().map(|c| if is_printable(c.encode_utf8(&mut [0; 4]), 4) { c } else { '?' }).take(longest).collect()
}

#[cfg(test)]
mod tests;
