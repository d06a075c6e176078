//! What one super saw in a round, and signed.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::{At, Bits, OpenRound};
use crate::id::{NodeId, Seat, Signature};

/// What one super saw in one round: the signed payload `partial+cbor`. Bits and lists are in the order of the queue as
/// after the settlement of `base`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Partial {
    /// `id#genesis`.
    #[n(0)]
    pub cluster: String,
    /// The round, its term and base.
    #[n(1)]
    pub open: OpenRound,
    /// Who saw it.
    #[n(2)]
    pub seat: Seat,
    /// Members that were sent a ping that counts. One of two pings that found no stream takes the member out again,
    /// unless the other was missed.
    #[n(3)]
    pub asked: Bits,
    /// Those of them that answered every ping that counts in time.
    #[n(4)]
    pub seen: Bits,
    /// Members of which no ping counts, because this super was late itself.
    #[n(5)]
    pub void: Bits,
    /// Fact bits of members that have any. Whether one was absent or missed its turn follows from the bitmaps.
    #[n(6)]
    pub facts: Vec<At<u16>>,
    /// Round trip of each member on the log scale of [`rtt_code`]; 0 = none.
    #[n(7)]
    pub rtt: Vec<u16>,
    /// `data` of the last pong, where it is not 0.
    #[n(8)]
    pub data: Vec<At<u64>>,
    /// `address` of the last pong, where it is another than the one in state.
    #[n(9)]
    pub addresses: Vec<At<String>>,
    /// Members that asked to return on their stream.
    #[n(10)]
    pub returns: Bits,
    /// How late this super's loop was at worst, ms.
    #[n(11)]
    pub lag_ms: u64,
    /// When this super opened for attaching, ms since 1970: another value than before says that it started anew.
    #[n(12)]
    pub open_since_ms: u64,
    /// It was open for attaching during the whole round; if not, it says nothing of members without a stream.
    #[n(13)]
    pub open_all_round: bool,
    /// Handshakes that it refused for load.
    #[n(14)]
    pub refused: u32,
    /// The secret from which its moments were drawn.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub secret: [u8; 16],
    /// Over how long its followers come back after a loss, ms: a grace lasts at least twice that.
    #[n(16)]
    pub spread_ms: u64,
}

impl Partial {
    /// The bytes that are signed.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        // Writing to memory cannot fail.
        minicbor::to_vec(self).unwrap_or_default()
    }
}

/// A partial report as it travels: the bytes that were signed and by whom. DSSE, payload type
/// [`PARTIAL_TYPE`](crate::envelope::PARTIAL_TYPE).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SignedPartial {
    /// The super's key.
    #[n(0)]
    pub signer: NodeId,
    /// CBOR of a [`Partial`].
    #[cbor(n(1), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Over the pre-authentication encoding of the payload.
    #[n(2)]
    pub signature: Signature,
}

/// A round trip on a log scale: 5 bits of exponent, 11 of mantissa, so that 16 bits hold 1 µs to over an hour within
/// 0.05 %. The order of codes is the order of times.
#[must_use]
pub const fn rtt_code(us: u32) -> u16 {
    let us = if us == 0 { 1 } else { us };
    if us < 1 << 12 {
        return us as u16;
    }
    let exponent = 31 - us.leading_zeros() - 11;
    let mantissa = us >> exponent;
    ((exponent << 11) + mantissa) as u16
}

/// The round trip of a code, µs.
#[must_use]
pub const fn rtt_us(code: u16) -> u32 {
    let code = code as u32;
    if code < 1 << 12 {
        return code;
    }
    let exponent = (code >> 11) - 1;
    let mantissa = (code & 0x7ff) | 0x800;
    mantissa << exponent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_codes_keep_order_and_three_digits() {
        let mut last = 0;
        for us in (1..20_000).chain((20_000..2_000_000_000).step_by(999_983)) {
            let code = rtt_code(us);
            assert!(code >= last, "{us}");
            last = code;
            let back = rtt_us(code);
            assert!(back <= us && us - back <= us / 2_048, "{us} {back}");
        }
        assert_eq!(rtt_code(0), 1, "0 is kept for none");
    }
}
