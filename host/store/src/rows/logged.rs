//! An entry of the log, as it is stored and as it travels.

use std::sync::Arc;

use kernel::command::Command;
use minicbor::{Decode, Encode};

use crate::error::StoreError;
use crate::rows::mark::{Membership, Place};
use crate::rows::{decode, encode};

const TABLE: &str = "log";

/// What an entry of the log says.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum Payload {
    /// Nothing: a leader's first entry.
    #[n(0)]
    Blank,
    /// A command for the kernel.
    #[n(1)]
    Command(#[cbor(n(0), with = "shared")] Arc<Command>),
    /// New members.
    #[n(2)]
    Membership(#[n(0)] Membership),
}

/// A shared value is stored as the value.
mod shared {
    use std::sync::Arc;

    use minicbor::decode::{self, Decode, Decoder};
    use minicbor::encode::{self, Encode, Encoder, Write};

    pub(super) fn encode<C, T: Encode<C>, W: Write>(
        value: &Arc<T>,
        encoder: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        (**value).encode(encoder, context)
    }

    pub(super) fn decode<'b, C, T: Decode<'b, C>>(
        decoder: &mut Decoder<'b>,
        context: &mut C,
    ) -> Result<Arc<T>, decode::Error> {
        T::decode(decoder, context).map(Arc::new)
    }
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Logged {
    /// Its place.
    #[n(0)]
    pub place: Place,
    /// What it says.
    #[n(1)]
    pub payload: Payload,
}

impl Logged {
    /// Its bytes.
    ///
    /// # Errors
    /// Never, in practice: every entry has an encoding.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StoreError> {
        encode(TABLE, self)
    }

    /// The entry of all these bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: they are no entry.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        decode(TABLE, "(bytes)", bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::check;
    use crate::rows::mark::Replica;
    use crate::tests::draw::Draw;
    use crate::tests::player::Player;

    #[test]
    fn an_entry_of_the_log_comes_back() {
        let replica = |draw: &mut Draw| Replica { key: draw.node(), address: draw.text(), name: draw.text() };
        let any = |draw: &mut Draw| {
            let payload = match draw.below(3) {
                0 => Payload::Blank,
                1 => Payload::Command(Arc::new(Player::new(draw.next()).command())),
                _ => Payload::Membership(Membership {
                    voters: draw.some(|draw| draw.some(Draw::number)),
                    replicas: draw.some(|draw| (draw.number(), replica(draw))),
                }),
            };
            Logged { place: Place { term: draw.number(), index: draw.number() }, payload }
        };
        check::row(any, Logged::to_bytes, Logged::of_bytes, "7379a9653e35f867");
    }
}
