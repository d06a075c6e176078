//! Values of the wire, of the store and of openraft, each into the others.

use std::sync::Arc;

use kernel::command::Command;
use kernel::outcome::{Reject, Reply};
use openraft::raft::{TransferLeaderError, TransferLeaderResponse};
use store::Logged;
use wire::raft::{Answer, COMMAND_BYTES, ENTRY_BYTES, HandedOver, Place, Vote};

use crate::types::{self, Proposed, RaftEntry, RaftPlace, RaftVote, Types};

/// What openraft says of an entry's place, for the wire.
pub(crate) const fn place(from: &RaftPlace) -> Place {
    let ours = types::place(from);
    Place { term: ours.term, index: ours.index }
}

pub(crate) fn raft_place(from: Place) -> RaftPlace {
    types::raft_place(store::Place { term: from.term, index: from.index })
}

pub(crate) const fn vote(from: &RaftVote) -> Vote {
    let ours = types::vote(from);
    Vote { term: ours.term, replica: ours.replica, committed: ours.committed }
}

pub(crate) fn raft_vote(from: Vote) -> RaftVote {
    types::raft_vote(store::Vote { term: from.term, replica: from.replica, committed: from.committed })
}

pub(crate) fn raft_handed_over(from: HandedOver) -> TransferLeaderResponse<Types> {
    match from {
        HandedOver::Taken => Ok(()),
        HandedOver::VoteChanged { expected, actual } => {
            Err(TransferLeaderError::VoteChanged { expected: raft_vote(expected), actual: raft_vote(actual) })
        }
        HandedOver::NotFlushed { expected, actual } => Err(TransferLeaderError::LogNotFlushed {
            expected: expected.map(raft_place),
            actual: actual.map(raft_place),
        }),
    }
}

pub(crate) fn handed_over(from: TransferLeaderResponse<Types>) -> HandedOver {
    match from {
        Ok(()) => HandedOver::Taken,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            HandedOver::VoteChanged { expected: vote(&expected), actual: vote(&actual) }
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            HandedOver::NotFlushed { expected: expected.as_ref().map(place), actual: actual.as_ref().map(place) }
        }
    }
}

/// Bytes that are no entry, command or answer, or too many of them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("an entry that cannot travel: {0}")]
pub(crate) struct UnfitEntry(String);

impl UnfitEntry {
    fn new(why: impl ToString) -> Self {
        Self(why.to_string())
    }
}

/// An entry as bytes.
pub(crate) fn entry(from: &RaftEntry) -> Result<Vec<u8>, UnfitEntry> {
    let bytes = types::logged(from).to_bytes().map_err(UnfitEntry::new)?;
    if bytes.len() > ENTRY_BYTES {
        return Err(UnfitEntry::new(format_args!("it has {} bytes, {ENTRY_BYTES} are allowed", bytes.len())));
    }
    Ok(bytes)
}

/// The entry of these bytes.
pub(crate) fn raft_entry(bytes: &[u8]) -> Result<RaftEntry, UnfitEntry> {
    let logged = Logged::of_bytes(bytes).map_err(UnfitEntry::new)?;
    types::raft_entry(logged).map_err(UnfitEntry::new)
}

/// A command as bytes.
pub(crate) fn command(from: &Command) -> Result<Vec<u8>, UnfitEntry> {
    minicbor::to_vec(from).map_err(UnfitEntry::new)
}

/// The command of these bytes.
pub(crate) fn read_command(bytes: &[u8]) -> Result<Command, UnfitEntry> {
    minicbor::decode(bytes).map_err(UnfitEntry::new)
}

/// Whether a command is short enough for the log.
pub(crate) fn fits(command: &Command) -> bool {
    let mut count = Count { left: COMMAND_BYTES };
    minicbor::encode(command, &mut count).is_ok()
}

/// Counts bytes instead of keeping them.
struct Count {
    left: usize,
}

impl minicbor::encode::Write for Count {
    type Error = TooLong;

    fn write_all(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(TooLong)?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("too long")]
struct TooLong;

/// What became of a command, as it travels.
pub(crate) fn answer(from: &Result<Reply, Reject>) -> Answer {
    let written = match from {
        Ok(reply) => minicbor::to_vec(reply).map(Answer::Accepted),
        Err(reject) => minicbor::to_vec(reject).map(Answer::Refused),
    };
    // It counts; what was said about it is lost.
    written.unwrap_or(Answer::Unknown)
}

/// The same read; `None` where nobody knows.
pub(crate) fn read_answer(from: &Answer) -> Result<Option<Result<Reply, Reject>>, UnfitEntry> {
    Ok(match from {
        Answer::Accepted(bytes) => Some(Ok(minicbor::decode(bytes).map_err(UnfitEntry::new)?)),
        Answer::Refused(bytes) => Some(Err(minicbor::decode(bytes).map_err(UnfitEntry::new)?)),
        Answer::Unknown => None,
    })
}

/// A command as openraft takes it.
pub(crate) fn proposed(command: &Arc<Command>) -> Proposed {
    Proposed(Arc::clone(command))
}
