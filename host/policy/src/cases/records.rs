//! Cases of records: a batch in, what becomes of each record out. The batch is judged as a validator judges it, record by
//! record where the rule fails.

use kernel::decide::{Fault, LogLine, Policy};
use kernel::id::{Digest, NodeId};
use kernel::limits::{FORWARD_RECORDS, RECORD_BODY};
use kernel::records::certificate::Verdict;
use kernel::records::review::{Context, Review, Reviewed, check_verdicts, judge, verdicts};

use super::file::{self, BatchKeys, Expect, RecordRow, unhex};
use super::world::{LOG_LINES, START_MS};
use super::{Case, CaseError, Played};

/// Words of `expect.verdict`.
const VERDICTS: [&str; 2] = ["sign", "refuse"];
/// How long after its order a record expires where nothing is said, ms.
const EXPIRES_MS: u64 = 60_000;

impl Case {
    pub(super) fn check_records(&self) -> Result<(), CaseError> {
        let keys = &self.keys;
        if self.records().is_empty() || self.records().len() > FORWARD_RECORDS {
            return Err(self.wrong(format!("`records` has a row for each record of a batch, 1 to {FORWARD_RECORDS}")));
        }
        if keys.slot.as_deref().is_some_and(|slot| slot != "signing") {
            return Err(self.wrong("`records` are of the slot signing; the other slots have `rounds` or `members`"));
        }
        if self.is_call() || !keys.rounds.is_empty() {
            return Err(self.wrong("a case has `records` of a batch, or `rounds`, or `members`, and one of them only"));
        }
        if keys.start != file::Start::default() || keys.interval_ms.is_some() || keys.round.is_some() {
            let what =
                "`start`, `interval_ms` and `round` are of members; beside `records`, `batch` says what is known";
            return Err(self.wrong(what));
        }
        for spanned in self.records() {
            let wrong = |what| self.wrong_at(spanned.span().start, what);
            body(spanned.get_ref()).map_err(wrong)?;
            key_or_name("digest", &spanned.get_ref().digest).map_err(wrong)?;
        }
        Ok(())
    }

    pub(super) fn check_records_expect(&self) -> Result<(), CaseError> {
        let expect = &self.keys.expect;
        let of_records = Expect {
            verdict: expect.verdict.clone(),
            reason: expect.reason.clone(),
            fault: expect.fault.clone(),
            ..Expect::default()
        };
        if *expect != of_records {
            return Err(self.wrong("`expect`: of records there are verdict, reason and fault"));
        }
        match expect.verdict.iter().flatten().find(|verdict| !VERDICTS.contains(&verdict.as_str())) {
            Some(other) => Err(self.wrong(file::unknown(other, "verdict", &VERDICTS))),
            None => Ok(()),
        }
    }

    pub(super) fn play_records(&self, config: &str, policy: &dyn Policy) -> Played {
        let context = context(self.keys.batch.as_ref());
        let bodies: Vec<Vec<u8>> = self.records().iter().map(|row| body(row.get_ref()).unwrap_or_default()).collect();
        let rows = self.records().iter().zip(&bodies).enumerate();
        let records: Vec<Reviewed<'_>> =
            rows.map(|(at, (row, body))| reviewed(at, row.get_ref(), body, &context)).collect();
        let batch = Review { config, context, records: &records };
        let Judged { faults, log, codes } = Judged::of(policy, &batch);
        let mut differences: Vec<String> = Vec::new();
        match &codes {
            Ok(codes) => {
                differences.extend(self.record_faults(&faults));
                let told = verdicts(codes, &policy.description().reasons).unwrap_or_default();
                differences.extend(self.record_differences(&told));
            }
            Err(fault) => differences.push(format!("a validator would find nothing: {fault}")),
        }
        Played {
            name: self.name().into(),
            differences,
            faults: faults.iter().map(|(place, fault)| format!("{place}: {fault}")).collect(),
            log: log.into_iter().rev().take(LOG_LINES).rev().map(|line| line.message).collect(),
            // What is looked for and written down is of members.
            failing: None,
        }
    }

    fn record_faults(&self, faults: &[(String, Fault)]) -> Vec<String> {
        match self.expected_fault() {
            Some(kind) if faults.iter().any(|(_, fault)| fault.kind.name() == kind) => Vec::new(),
            Some(kind) => vec![super::no_fault(kind)],
            None => faults.iter().map(|(place, fault)| format!("the rule failed with {place}: {fault}")).collect(),
        }
    }

    fn record_differences(&self, told: &[Verdict]) -> Vec<String> {
        let expect = &self.keys.expect;
        let mut out = Vec::new();
        for (at, (row, verdict)) in self.records().iter().zip(told).enumerate() {
            let name = &row.get_ref().name;
            let who = if name.is_empty() { String::new() } else { format!(" ({name})") };
            let (word, reason) = match verdict {
                Verdict::Signed => ("sign", ""),
                Verdict::Refused(reason) => ("refuse", reason.as_str()),
            };
            if let Some(expected) = expect.verdict.as_ref().and_then(|all| all.get(at)).filter(|all| *all != word) {
                let why = if reason.is_empty() { String::new() } else { format!(": \"{reason}\"") };
                out.push(format!("record {}{who}: verdict should be {expected}, but is {word}{why}", at + 1));
            }
            if let Some(expected) = expect.reason.as_ref().and_then(|all| all.get(at)).filter(|all| *all != reason) {
                out.push(format!("record {}{who}: reason should be \"{expected}\", but is \"{reason}\"", at + 1));
            }
        }
        out
    }
}

/// What a validator makes of a batch.
struct Judged {
    /// Where the rule failed on the way: with the batch, and with which records alone.
    faults: Vec<(String, Fault)>,
    log: Vec<LogLine>,
    /// The fault is one after which a validator abstains.
    codes: Result<Vec<u16>, Fault>,
}

impl Judged {
    fn of(policy: &dyn Policy, batch: &Review<'_>) -> Self {
        let asked = |review: &Review<'_>| {
            let codes = policy.review(review).result?;
            check_verdicts(&codes, review.records.len(), policy.description())
        };
        let mut faults = Vec::new();
        if let Err(fault) = asked(batch) {
            faults.push(("the batch".into(), fault));
            for (at, record) in batch.records.iter().enumerate() {
                if let Err(fault) = asked(&Review { records: std::slice::from_ref(record), ..*batch }) {
                    faults.push((format!("record {} alone", at + 1), fault));
                }
            }
        }
        let (codes, _, log) = judge(policy, batch);
        Self { faults, log, codes }
    }
}

fn context(keys: Option<&BatchKeys>) -> Context {
    let keys = keys.cloned().unwrap_or_default();
    Context {
        batch: keys.number.unwrap_or(1),
        round: keys.round.unwrap_or(1),
        ordered_ms: keys.ordered_ms.unwrap_or(START_MS),
        set_size: keys.set_size.unwrap_or(4),
    }
}

fn reviewed<'a>(at: usize, row: &RecordRow, body: &'a [u8], context: &Context) -> Reviewed<'a> {
    let author = key_or_name("author", &row.author).unwrap_or_default();
    // Not that of a real record, whose payload has a line more; as good to tell one from another.
    let usual = || Digest::of(&[&author, body, &(at as u64).to_le_bytes()].concat()).0;
    let digest = if row.digest.is_empty() { usual() } else { key_or_name("digest", &row.digest).unwrap_or_default() };
    Reviewed {
        sequence: row.sequence.unwrap_or(at as u64 + 1),
        author: NodeId(author),
        digest: Digest(digest),
        expires_ms: row.expires_ms.unwrap_or(context.ordered_ms.saturating_add(EXPIRES_MS)),
        body,
    }
}

/// The body of a row.
fn body(row: &RecordRow) -> Result<Vec<u8>, String> {
    let once = match (&row.body, &row.hex) {
        (Some(_), Some(_)) => return Err("a record has a `body` of text, or of bytes as `hex`, and not both".into()),
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(digits)) => {
            unhex(digits).ok_or_else(|| format!("`hex` is two digits a byte, and not `{digits}`"))?
        }
        (None, None) => return Err("a record has a `body`, or bytes as `hex`; either may be empty".into()),
    };
    let times = row.times.unwrap_or(1);
    match once.len().saturating_mul(times as usize) {
        bytes if bytes <= RECORD_BODY => Ok(once.repeat(times as usize)),
        bytes => Err(format!("its body has {bytes} bytes, and a record's has at most {RECORD_BODY}")),
    }
}

/// 32 bytes: as 64 hex digits, or those that belong to a name.
fn key_or_name(what: &str, text: &str) -> Result<[u8; 32], String> {
    match unhex(text).filter(|bytes| bytes.len() == 32).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => Ok(bytes),
        None if what == "author" || text.is_empty() => Ok(Digest::of(text.as_bytes()).0),
        None => Err(format!("`{what}` is 64 hex digits, and not `{text}`")),
    }
}
