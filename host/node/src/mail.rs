//! What the gRPC server puts into the super's one mailbox.
//!
//! Invariant: each [`Attach`] is followed by exactly one [`Mail::Detached`] of the same stream, whatever it was answered,
//! and by nothing of that stream after it. A mailbox that is full makes the streams wait, each for itself.

use std::net::IpAddr;
use std::time::Instant;

use kernel::id::NodeId;
use kernel::members::Refusal;
use kernel::round::{OpenRound, SignedPartial};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use wire::message::{FromFollower, Hello, ToFollower, Welcome};

/// Names a stream of this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// One thing that happened on a stream.
#[derive(Debug)]
pub enum Mail {
    /// A hello came on a new stream.
    Attach(Box<Attach>),
    /// A message came on a stream that was welcomed.
    Message {
        /// On which.
        stream: StreamId,
        /// Whose it is.
        node: NodeId,
        /// When the bytes came off the socket.
        at: Instant,
        /// What.
        what: FromFollower,
    },
    /// The stream is over.
    Detached {
        /// Which.
        stream: StreamId,
        /// Whose it was.
        node: NodeId,
    },
}

/// One thing that another super says about rounds.
#[derive(Debug)]
pub enum SuperMail {
    /// The leader opens a round.
    Open {
        /// Who says so.
        from: NodeId,
        /// Which.
        open: OpenRound,
    },
    /// What a super saw.
    Report {
        /// As it came.
        signed: Box<SignedPartial>,
        /// Whether it need not come again.
        taken: oneshot::Sender<bool>,
    },
}

/// A stream that waits for an answer to its hello.
#[derive(Debug)]
pub struct Attach {
    /// Which.
    pub stream: StreamId,
    /// Whose, from TLS.
    pub node: NodeId,
    /// What it says.
    pub hello: Hello,
    /// Where it comes from.
    pub ip: IpAddr,
    /// The port that we see.
    pub source_port: u16,
    /// The way back. What is put in before the answer follows the welcome.
    pub out: Out,
    /// Welcome or not. Where it cannot be delivered the stream is over already.
    pub answer: oneshot::Sender<Result<Welcome, Refusal>>,
}

/// The way back to a node. The stream ends when the last clone of it is dropped.
#[derive(Clone, Debug)]
pub struct Out {
    // Boxed, because a channel keeps room for many messages and most are small.
    to: mpsc::Sender<Box<ToFollower>>,
    stuck: CancellationToken,
}

/// The stream is over, or its node does not read and the stream has been closed for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl Out {
    /// A way back with room for so many messages, what comes out of it, and a token that fires when it was full.
    #[must_use]
    pub fn new(room: usize) -> (Self, mpsc::Receiver<Box<ToFollower>>, CancellationToken) {
        let (to, from) = mpsc::channel(room);
        let stuck = CancellationToken::new();
        (Self { to, stuck: stuck.clone() }, from, stuck)
    }

    /// Puts a message on its way and never waits: a node that does not read loses its stream.
    ///
    /// # Errors
    /// [`Closed`]: drop this, nothing gets through.
    pub fn send(&self, what: ToFollower) -> Result<(), Closed> {
        self.to.try_send(Box::new(what)).map_err(|error| {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.stuck.cancel();
            }
            Closed
        })
    }

    /// Refuses, which also ends the stream.
    pub fn refuse(self, refusal: Refusal) {
        let _gone = self.send(ToFollower::Refused(refusal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_back_that_is_full_closes_its_stream() {
        let (out, _from, stuck) = Out::new(1);
        assert_eq!(out.send(ToFollower::Pong { nonce: 1 }), Ok(()));
        assert!(!stuck.is_cancelled());
        assert_eq!(out.send(ToFollower::Pong { nonce: 2 }), Err(Closed));
        assert!(stuck.is_cancelled());
    }
}
