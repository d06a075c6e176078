//! The slowly changing part of a member. Keyed by node: a row that goes is named by it alone.

use kernel::id::NodeId;
use kernel::members::Profile;
use kernel::outcome::Write;
use redb::{ReadTransaction, WriteTransaction};

use crate::error::{StoreError, disk};
use crate::rows::{decode, each_named, encode, hex, key32};
use crate::tables::PROFILES;

const TABLE: &str = "profiles";

pub(crate) fn load(reader: &ReadTransaction, take: &mut dyn FnMut(Write)) -> Result<(), StoreError> {
    each_named(reader, PROFILES, |key, bytes| {
        let row = decode(TABLE, hex(key), bytes)?;
        take(Write::Profile(NodeId(key32(TABLE, key)?), Some(Box::new(row))));
        Ok(())
    })
}

pub(crate) fn write(transaction: &WriteTransaction, key: &NodeId, row: Option<&Profile>) -> Result<(), StoreError> {
    let mut table = transaction.open_table(PROFILES).map_err(disk)?;
    match row {
        Some(row) => table.insert(key.0.as_slice(), encode(TABLE, row)?.as_slice()).map_err(disk)?,
        None => table.remove(key.0.as_slice()).map_err(disk)?,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::command::{Amount, Ip};
    use kernel::id::{MemberNumber, ProtocolVersion, RoundId};
    use kernel::members::{ClaimAnswer, LastClaim};
    use kernel::outcome::{Claimed, Reject};
    use kernel::units::Points;

    use super::*;
    use crate::rows::check;
    use crate::tests::draw::Draw;

    fn claim(draw: &mut Draw) -> LastClaim {
        let points = |draw: &mut Draw| Points(draw.number() as i64);
        let answer = if draw.coin() {
            let amount = if draw.coin() { Amount::All } else { Amount::Exactly(draw.number()) };
            ClaimAnswer::Paid(Claimed { amount, paid: points(draw), earned: points(draw), wallet: points(draw) })
        } else {
            ClaimAnswer::Refused(Reject::Overclaim { penalty: points(draw), earned: points(draw) })
        };
        let (sequence, digest) = (draw.number(), draw.digest());
        LastClaim {
            sequence,
            digest,
            answer,
            round: RoundId(draw.number()),
            since_round: draw.number() as u32,
            expires_ms: draw.number(),
        }
    }

    fn any(draw: &mut Draw) -> Profile {
        Profile {
            number: MemberNumber(draw.number() as u32),
            name: draw.text(),
            version: ProtocolVersion { major: draw.number() as u16, minor: draw.number() as u16 },
            software: draw.text(),
            ip: if draw.coin() { Ip::V4([1, 2, 3, draw.next() as u8]) } else { Ip::V6([draw.next() as u8; 16]) },
            port: draw.number() as u16,
            address: draw.maybe(Draw::text),
            rest: draw.maybe(Draw::text),
            joined: RoundId(draw.number()),
            joined_ms: draw.number(),
            class: draw.number() as u32,
            group: draw.number() as u32,
            goodbyes: draw.some(Draw::number),
            reason: draw.text(),
            decided_by: draw.maybe(Draw::digest),
            claim: draw.maybe(claim),
            hellos: (RoundId(draw.number()), draw.number() as u32),
        }
    }

    #[test]
    fn a_profile_comes_back() {
        check::row(any, |row| encode(TABLE, row), |bytes| decode(TABLE, 0, bytes), "4fbeeed54edef731");
    }
}
