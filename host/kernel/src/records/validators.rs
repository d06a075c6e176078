//! Who may sign records: the set, its quorum, and the one offence that removes a member (PROTOCOLS 10.20 to 10.22).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decode, Encode};

use super::certificate::Attestation;
use crate::command::Operator;
use crate::decide::Slot;
use crate::envelope::{ATTESTATION_TYPE, verify};
use crate::id::{Digest, NodeId, Signature, is_name};
use crate::limits::{FORMER_VALIDATORS, REASON_BYTES, VALIDATOR_SETS, VALIDATORS};
use crate::outcome::{Change, Notice, Reject, Reply, Write};
use crate::state::{Effects, State};

/// A member of the set.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Validator {
    /// Its key.
    #[n(0)]
    pub node: NodeId,
    /// Its display name.
    #[n(1)]
    pub name: String,
    /// `host:port` of its gRPC, where the other validators and followers reach it.
    #[n(2)]
    pub address: String,
    /// It was there once with a table of what it signed. One that comes without such a table later may have signed what it
    /// does not know of, and abstains from all that was ordered before.
    #[n(3)]
    pub came: bool,
}

/// The set of validators.
#[derive(Clone, Debug, PartialEq, Eq, Default, Encode, Decode)]
pub struct Validators {
    /// Rises with each change; 0 = there was none yet.
    #[n(0)]
    pub version: u64,
    /// Its members, in ascending order of key.
    #[n(1)]
    pub set: Vec<Validator>,
    /// Keys that were members and came, the last one that went at the end.
    #[n(2)]
    pub former: Vec<NodeId>,
    /// The keys of this and of earlier sets, by version, the newest last: certificates name the version that they count in.
    #[n(3)]
    pub sets: Vec<(u64, Vec<NodeId>)>,
}

impl Validators {
    /// Their keys.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<NodeId> {
        self.set.iter().map(|validator| validator.node).collect()
    }

    /// The keys of the set of a version; `None` where there was none, or it is too long ago.
    #[must_use]
    pub fn of_version(&self, version: u64) -> Option<BTreeSet<NodeId>> {
        let set = self.sets.iter().rev().find(|(of, _)| *of == version);
        set.map(|(_, keys)| keys.iter().copied().collect())
    }

    /// Another set from now on.
    fn changed(&mut self) {
        self.version += 1;
        self.sets.push((self.version, self.set.iter().map(|validator| validator.node).collect()));
        let over = self.sets.len().saturating_sub(VALIDATOR_SETS);
        self.sets.drain(..over);
    }

    /// A member.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&Validator> {
        self.set.iter().find(|validator| validator.node == *node)
    }
}

/// The least number of signatures that makes a quorum of `n` validators: more than two thirds, so that two quorums share an
/// honest one while fewer than a third are faulty.
#[must_use]
pub const fn least_quorum(n: usize) -> usize {
    2 * n / 3 + 1
}

/// A validator is there, and has, or makes now, its table of what it signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Came {
    /// Who.
    #[n(0)]
    pub validator: NodeId,
}

/// A validator has compiled and self-tested a signing policy, or cannot run it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Able {
    /// Who.
    #[n(0)]
    pub validator: NodeId,
    /// The policy.
    #[n(1)]
    pub policy: Digest,
    /// Why it cannot; `None` = it can.
    #[n(2)]
    pub why_not: Option<String>,
}

/// An attestation as a validator signed it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attested {
    /// [`Attestation`] as CBOR, as carried.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
    /// Over the payload.
    #[n(1)]
    pub signature: Signature,
}

/// That a validator signed two roots for one batch and attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Evidence {
    /// Who.
    #[n(0)]
    pub validator: NodeId,
    /// One.
    #[n(1)]
    pub one: Attested,
    /// The other.
    #[n(2)]
    pub other: Attested,
    /// Stamp.
    #[n(3)]
    pub now_ms: u64,
}

impl Evidence {
    /// What the validator signed, if it proves that it signed two roots for one batch and attempt of one cluster.
    ///
    /// # Errors
    /// Why it proves nothing, for people.
    pub fn check(&self) -> Result<(Attestation, Attestation), &'static str> {
        let read = |attested: &Attested| minicbor::decode::<Attestation>(&attested.payload);
        let (Ok(one), Ok(other)) = (read(&self.one), read(&self.other)) else {
            return Err("one of the two cannot be read");
        };
        if (&one.cluster, one.batch, one.attempt) != (&other.cluster, other.batch, other.attempt) {
            return Err("the two are not of the same cluster, batch and attempt");
        }
        if one.root == other.root {
            return Err("both name the same root, which is no offence");
        }
        let signed =
            |attested: &Attested| verify(&self.validator, ATTESTATION_TYPE, &attested.payload, &attested.signature);
        if !signed(&self.one) || !signed(&self.other) {
            return Err("a signature does not verify");
        }
        Ok((one, other))
    }
}

impl State {
    /// Signatures that seal a batch: the setting within its bounds, so that a change of the set pulls it back into them.
    #[must_use]
    pub fn quorum(&self) -> usize {
        let n = self.validators.set.len();
        let wanted = usize::try_from(self.meta.settings.quorum).unwrap_or(n);
        wanted.clamp(least_quorum(n).min(n), n)
    }

    pub(crate) fn add_validator(
        &mut self,
        validator: &Validator,
        (by, reason): (Operator, &str),
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let malformed = |what: &str| Err(Reject::Malformed { what: what.to_string() });
        if !validator.name.is_empty() && !is_name(&validator.name) {
            return malformed("the name: at most 32 of a-z, 0-9 and -");
        }
        if validator.address.is_empty() || validator.address.len() > REASON_BYTES {
            return malformed("the address: host:port of its gRPC");
        }
        if self.meta.seats.iter().any(|row| row.holder.node == validator.node)
            || self.members.get(&validator.node).is_some_and(|member| !member.hot.place.is_out())
        {
            return Err(Reject::WrongRole);
        }
        let known = self.validators.get(&validator.node);
        if known.is_some_and(|known| known.name == validator.name && known.address == validator.address) {
            return Ok(Reply::Changed { count: 0 });
        }
        if known.is_none() && self.validators.set.len() >= VALIDATORS {
            return Err(Reject::Full { what: format!("the set: at most {VALIDATORS} validators") });
        }
        let came = known.is_some_and(|known| known.came) || self.validators.former.contains(&validator.node);
        let from = known.map_or_else(String::new, |known| known.address.clone());
        // Another address is no other set: what was signed counts on.
        let is_new = known.is_none();
        let set = &mut self.validators;
        set.set.retain(|old| old.node != validator.node);
        set.set.push(Validator { came, ..validator.clone() });
        set.set.sort_unstable_by_key(|validator| validator.node);
        set.former.retain(|old| *old != validator.node);
        if is_new {
            set.changed();
        }
        let what = format!("validator {}", validator.node);
        self.note_validators((Some(by), reason), (what, from, validator.address.clone()), fx);
        Ok(Reply::Changed { count: 1 })
    }

    pub(crate) fn remove_validator(
        &mut self,
        node: NodeId,
        (by, reason): (Operator, &str),
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let from = self.validators.get(&node).ok_or(Reject::UnknownValidator)?.address.clone();
        self.drop_validator(node, fx);
        self.note_validators((Some(by), reason), (format!("validator {node}"), from, String::new()), fx);
        Ok(Reply::Changed { count: 1 })
    }

    /// Takes a validator out that signed two roots. Evidence of another cluster, or against who is in no set, does nothing.
    pub(crate) fn evidence(&mut self, evidence: &Evidence, fx: &mut Effects) -> Result<Reply, Reject> {
        self.stamp(evidence.now_ms);
        let (one, _) = evidence.check().map_err(|why| Reject::Unsigned { why: why.to_string() })?;
        if one.cluster != self.meta.cluster {
            return Err(Reject::Unsigned { why: "it is of another cluster".into() });
        }
        let from = self.validators.get(&evidence.validator).ok_or(Reject::UnknownValidator)?.address.clone();
        self.drop_validator(evidence.validator, fx);
        let reason = format!("signed two roots for batch {}, attempt {}", one.batch, one.attempt);
        let what = format!("validator {} removed by evidence", evidence.validator);
        self.note_validators((None, &reason), (what, from, String::new()), fx);
        Ok(Reply::Changed { count: 1 })
    }

    fn drop_validator(&mut self, node: NodeId, fx: &mut Effects) {
        let set = &mut self.validators;
        let came = set.get(&node).is_some_and(|validator| validator.came);
        set.set.retain(|validator| validator.node != node);
        set.changed();
        if came {
            set.former.push(node);
            let over = set.former.len().saturating_sub(FORMER_VALIDATORS);
            set.former.drain(..over);
        }
        // Its word on policies goes with it.
        for (digest, row) in self.policies.iter_mut().filter(|(_, row)| row.slot == Slot::Signing) {
            let before = (row.able.len(), row.unable.len());
            row.able.retain(|able| *able != node);
            row.unable.retain(|(unable, _)| *unable != node);
            if before != (row.able.len(), row.unable.len()) {
                fx.writes.push(Write::Policy(*digest, Some(Box::new(row.clone()))));
            }
        }
    }

    fn note_validators(
        &self,
        (by, reason): (Option<Operator>, &str),
        (what, from, to): (String, String, String),
        fx: &mut Effects,
    ) {
        fx.writes.push(Write::Validators(Box::new(self.validators.clone())));
        fx.notices.push(Notice::Validators { version: self.validators.version });
        let now_ms = self.meta.stamp_ms;
        fx.change(Change { now_ms, by, what, from, to, reason: reason.to_string(), ..Change::default() });
    }

    pub(crate) fn came(&mut self, came: Came, fx: &mut Effects) -> Result<Reply, Reject> {
        let set = &mut self.validators;
        let row = set.set.iter_mut().find(|row| row.node == came.validator).ok_or(Reject::UnknownValidator)?;
        if !core::mem::replace(&mut row.came, true) {
            fx.writes.push(Write::Validators(Box::new(set.clone())));
        }
        Ok(Reply::Done)
    }

    pub(crate) fn able(&mut self, able: &Able, fx: &mut Effects) -> Result<Reply, Reject> {
        let who = self.validators.get(&able.validator).ok_or(Reject::UnknownValidator)?;
        let who = if who.name.is_empty() { who.node.short() } else { who.name.clone() };
        let row = self.policies.get_mut(&able.policy).filter(|row| row.slot == Slot::Signing);
        let row = row.ok_or(Reject::UnknownPolicy)?;
        let before = (row.able.clone(), row.unable.clone());
        row.able.retain(|node| *node != able.validator);
        row.unable.retain(|(node, _)| *node != able.validator);
        let why = able.why_not.as_deref().map(|why| crate::stage::cut(why, REASON_BYTES));
        match why {
            None => row.able.push(able.validator),
            Some(why) => row.unable.push((able.validator, why.to_string())),
        }
        row.able.sort_unstable();
        row.unable.sort_unstable();
        if before == (row.able.clone(), row.unable.clone()) {
            return Ok(Reply::Done);
        }
        fx.writes.push(Write::Policy(able.policy, Some(Box::new(row.clone()))));
        fx.notices.push(Notice::Policy {
            slot: Slot::Signing,
            policy: Some(able.policy),
            what: if why.is_none() { "ready" } else { "unready" },
            round: self.meta.settled,
            detail: why.map_or_else(|| who.clone(), |why| format!("{who}: {why}")),
        });
        Ok(Reply::Done)
    }

    /// Another attempt at a batch, under the signing policy that is in force now.
    pub(crate) fn retry_batch(
        &mut self,
        number: u64,
        (by, reason): (Operator, &str),
        fx: &mut Effects,
    ) -> Result<Reply, Reject> {
        let policy = self.slot(Slot::Signing).row.active.ok_or(Reject::NoPolicy)?;
        let batch = self.batches.get_mut(&number).filter(|batch| batch.sealed.is_none());
        let batch = alloc::sync::Arc::make_mut(batch.ok_or(Reject::UnknownBatch)?);
        let (from, attempt) = (batch.policy, batch.attempt.saturating_add(1));
        (batch.policy, batch.attempt) = (policy, attempt);
        let batch = alloc::sync::Arc::new(batch.clone());
        fx.writes.push(Write::Batch(number, Some(batch.clone())));
        fx.notices.push(Notice::Ordered(batch));
        fx.change(Change {
            now_ms: self.meta.stamp_ms,
            by: Some(by),
            what: format!("records of batch {number}, attempt {attempt}"),
            from: from.to_string(),
            to: policy.to_string(),
            reason: reason.to_string(),
            ..Change::default()
        });
        Ok(Reply::Changed { count: 1 })
    }
}
