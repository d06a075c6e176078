//! How a batch is judged: the signing policy is asked about all records at once, and what it says of each is its verdict.
//!
//! Invariant: the verdicts follow from the batch and the policy alone, so that every honest validator finds the same ones.
//! Where a validator cannot know what the others find (its clock stopped the policy, the policy is not prepared here), it
//! finds nothing and abstains.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::decide::{Description, Fault, LogLine, Policy, Run, lengths, reasons};
use crate::id::{Digest, NodeId};

use super::certificate::Verdict;

/// The code of a record that the policy cannot cope with: the host refuses it. No policy may give it.
pub const POLICY_FAULT: u16 = u16::MAX;
/// The reason of [`POLICY_FAULT`].
pub const POLICY_FAULT_REASON: &str = "policy_fault";

/// A record as the signing policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reviewed<'a> {
    /// Its sequence number.
    pub sequence: u64,
    /// Whose it is.
    pub author: NodeId,
    /// What names it.
    pub digest: Digest,
    /// When its author wished it to be ordered at the latest, ms since 1970.
    pub expires_ms: u64,
    /// What is to be signed.
    pub body: &'a [u8],
}

/// What the signing policy knows besides: all of it comes from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Context {
    /// The batch.
    pub batch: u64,
    /// The round that was settled last when it was ordered.
    pub round: u64,
    /// When it was ordered, ms since 1970, as the leader stamped it.
    pub ordered_ms: u64,
    /// Validators of the set when it was ordered.
    pub set_size: u32,
}

/// All that a signing policy is called with.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// Config: JSON, keys sorted, no spaces, as it was hashed.
    pub config: &'a str,
    /// The batch.
    pub context: Context,
    /// Its records, in order.
    pub records: &'a [Reviewed<'a>],
}

impl Review<'_> {
    /// Bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.records.iter().map(|record| record.body.len()).sum()
    }
}

/// Checks the shape of an answer: a code for each record, 0 or one that `describe` lists.
///
/// # Errors
/// The fault.
pub fn check_verdicts(codes: &[u16], records: usize, description: &Description) -> Result<(), Fault> {
    lengths(&[("verdicts", codes.len())], records)?;
    reasons(codes, description)
}

/// Judges a batch: a code for each record, 0 = sign, *i* = refused for reason *i*, or [`POLICY_FAULT`]. A batch at which the
/// policy fails is gone through record by record, and those are refused at which it fails alone.
///
/// # Errors
/// The fault that says nothing of the batch: this validator abstains.
pub fn judge(policy: &dyn Policy, review: &Review<'_>) -> (Result<Vec<u16>, Fault>, u64, Vec<LogLine>) {
    let whole = one(policy, review);
    let (mut fuel, mut log) = (whole.fuel, whole.log);
    let fault = match whole.result {
        Err(fault) if fault.kind.is_deterministic() => fault,
        told => return (told, fuel, log),
    };
    if let [_] = review.records {
        log.push(LogLine { level: 3, message: fault.to_string() });
        return (Ok(vec![POLICY_FAULT]), fuel, log);
    }
    let mut codes = Vec::with_capacity(review.records.len());
    for record in review.records {
        let alone = one(policy, &Review { records: core::slice::from_ref(record), ..*review });
        fuel += alone.fuel;
        match alone.result {
            Ok(told) => codes.extend(told),
            Err(fault) if fault.kind.is_deterministic() => codes.push(POLICY_FAULT),
            Err(fault) => return (Err(fault), fuel, log),
        }
    }
    log.push(LogLine { level: 3, message: format!("the records are judged one by one: {fault}") });
    (Ok(codes), fuel, log)
}

fn one(policy: &dyn Policy, review: &Review<'_>) -> Run<Vec<u16>> {
    let mut run = policy.review(review);
    run.result = run.result.and_then(|codes| {
        check_verdicts(&codes, review.records.len(), policy.description())?;
        Ok(codes)
    });
    run
}

/// What the codes of a batch say, in the policy's words; `None` where a code is none of the policy's.
#[must_use]
pub fn verdicts(codes: &[u16], reasons: &[String]) -> Option<Vec<Verdict>> {
    let told = |code: &u16| match *code {
        0 => Some(Verdict::Signed),
        POLICY_FAULT => Some(Verdict::Refused(POLICY_FAULT_REASON.to_string())),
        code => reasons.get(usize::from(code) - 1).cloned().map(Verdict::Refused),
    };
    codes.iter().map(told).collect()
}

/// The bodies of [`sample`].
const SAMPLE: [&[u8]; 5] =
    [b"", b"{\"temperature\":21}", b"a line of text", &[0, 1, 2, 0xff, 0xfe], &[b'x'; crate::limits::RECORD_BODY]];

/// A small batch that every candidate is run on before it may be staged: an empty body, JSON, text, bytes that are neither,
/// and the longest body that there may be.
#[must_use]
pub fn sample() -> (Context, Vec<Reviewed<'static>>) {
    let context = Context { batch: 7, round: 100, ordered_ms: 1_767_225_600_000, set_size: 4 };
    let record = |(at, body): (usize, &'static &'static [u8])| Reviewed {
        sequence: 1_000 + at as u64,
        author: NodeId(Digest::of(&[at as u8 % 2]).0),
        digest: Digest::of(body),
        expires_ms: context.ordered_ms + 60_000,
        body,
    };
    (context, SAMPLE.iter().enumerate().map(record).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{Call, FaultKind, Judgement, Reward};

    /// Refuses bodies that begin with `-`, and fails as told at those that begin with `!`.
    struct Picky(Description, FaultKind);

    impl Policy for Picky {
        fn description(&self) -> &Description {
            &self.0
        }
        fn reward(&self, _: &Call<'_>) -> Run<Reward> {
            unreachable!()
        }
        fn judge(&self, _: &Call<'_>) -> Run<Judgement> {
            unreachable!()
        }
        fn review(&self, review: &Review<'_>) -> Run<Vec<u16>> {
            let codes = review.records.iter().map(|record| match record.body {
                [b'!', ..] => Err(Fault::new(self.1, "a body with !")),
                [b'?', ..] => Ok(9),
                [b'-', ..] => Ok(1),
                _ => Ok(0),
            });
            Run { fuel: 10, ..Run::native(codes.collect()) }
        }
    }

    fn judged(bodies: &[&str], kind: FaultKind) -> (Result<Vec<u16>, FaultKind>, u64) {
        let policy = Picky(Description { reasons: vec!["negative".into()], ..Description::default() }, kind);
        let (context, sample) = sample();
        let records: Vec<_> = bodies.iter().map(|body| Reviewed { body: body.as_bytes(), ..sample[0] }).collect();
        let (result, fuel, _) = judge(&policy, &Review { config: "{}", context, records: &records });
        (result.map_err(|fault| fault.kind), fuel)
    }

    #[test]
    fn a_record_at_which_the_policy_fails_is_refused_alone() {
        let trap = FaultKind::Trap;
        assert_eq!(judged(&["a", "-b"], trap), (Ok(vec![0, 1]), 10));
        assert_eq!(judged(&["a", "!", "-b"], trap), (Ok(vec![0, POLICY_FAULT, 1]), 40));
        assert_eq!(judged(&["!"], trap), (Ok(vec![POLICY_FAULT]), 10));
        // A code that it never named is its fault too.
        assert_eq!(judged(&["a", "?"], trap), (Ok(vec![0, POLICY_FAULT]), 30));
        assert_eq!(judged(&[], trap), (Ok(vec![]), 10));
    }

    #[test]
    fn what_says_nothing_of_the_batch_gives_no_verdict() {
        for kind in [FaultKind::Deadline, FaultKind::NotPrepared] {
            assert_eq!(judged(&["a", "!"], kind).0, Err(kind));
        }
    }

    #[test]
    fn codes_are_told_in_the_policys_words() {
        let reasons = ["too long".to_string()];
        let refused = |text: &str| Verdict::Refused(text.into());
        assert_eq!(
            verdicts(&[0, 1, POLICY_FAULT], &reasons),
            Some(vec![Verdict::Signed, refused("too long"), refused("policy_fault")])
        );
        assert_eq!(verdicts(&[2], &reasons), None);
    }
}
