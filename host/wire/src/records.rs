//! What nodes say to each other about records, as plain types of the kernel, and protobuf of them.
//!
//! Invariant: what leaves this page can be read and is within its bounds. That it is true is checked by digests and
//! signatures, by whoever takes it.

use std::collections::BTreeSet;

use kernel::decide::LimitSettings;
use kernel::id::{Digest, LogIndex, NodeId, Signature};
use kernel::limits::{FORWARD_RECORDS, RECORD_BODY, RECORD_HEADER};
use kernel::records::certificate::{Attestation, Proof};
use kernel::records::order::{Batch, Contents, Ordered};
use kernel::records::record::{Forward, Record};
use kernel::records::seal::Seal;
use kernel::records::sealed::SealedBatch;
use kernel::records::validators::{Evidence, Validators};
use minicbor::{Decode, Encode};

use crate::message::Malformed;
use crate::pb;

/// Any message about records: a batch of the largest size that the settings allow, with what belongs to it, or a component.
pub const MESSAGE_BYTES: usize = 10 << 20;
/// A record with what is around it.
const RECORD_BYTES: usize = RECORD_BODY + RECORD_HEADER + 256;
/// Text for people.
const TEXT_BYTES: usize = 512;

/// Records that a node hands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// Told again in the answer.
    pub call: u64,
    /// What the node signed.
    pub forward: Forward,
    /// The records, in the order of the forward.
    pub records: Vec<Record>,
}

/// What became of records that were handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedAnswer {
    /// That of the call.
    pub call: u64,
    /// What became of each, or a word and a text why nothing was taken.
    pub what: Result<Vec<Ordered>, (String, String)>,
}

/// What a validator says to a super.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromValidator {
    /// First, and never again.
    Hello(ValidatorHello),
    /// How far it holds sealed batches.
    HeldTo(LogIndex),
    /// Whether it can run a signing policy.
    Able {
        /// Which.
        policy: Digest,
        /// Why not; `None` = it can.
        why_not: Option<String>,
    },
    /// A certificate that it gathered.
    Seal(Box<Seal>),
    /// It asks whether the super is there.
    Alive,
    /// Another validator signed two roots.
    Evidence(Box<Evidence>),
}

/// The first message of a validator's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorHello {
    /// `id#genesis`, or the bare id on the first contact.
    pub cluster: String,
    /// It has no table of what it signed.
    pub fresh: bool,
    /// How far it holds sealed batches.
    pub held_to: LogIndex,
    /// Display name.
    pub name: String,
    /// Its software version.
    pub software: String,
}

/// What a super says to a validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToValidator {
    /// It is in the set.
    Welcome {
        /// `id#genesis`.
        cluster: String,
        /// It was there before.
        came: bool,
        /// The last batch that is ordered.
        last_batch: u64,
    },
    /// It is not taken: a word and a text. The stream ends after it.
    Refused(String, String),
    /// This super leads, or leads no more.
    Leading(bool),
    /// The set.
    Set(Box<Set>),
    /// A signing policy that is staged or in use.
    Policy {
        /// Which.
        digest: Digest,
        /// Its component.
        component: Vec<u8>,
        /// Its config, as it was hashed.
        config: String,
    },
    /// A batch to be judged.
    Batch(Box<Batch>, Box<Contents>),
    /// The validator is to gather the signatures of a batch.
    Lead {
        /// The batch.
        batch: u64,
        /// The attempt.
        attempt: u32,
    },
    /// A batch that was sealed.
    Sealed(Box<Batch>),
    /// It is there.
    Alive,
}

/// The set of validators, and what they are to go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// It.
    pub validators: Validators,
    /// Signatures that seal a batch.
    pub quorum: u32,
    /// Time that a validator has to gather them, ms.
    pub turn_ms: u64,
    /// What a signing policy may use.
    pub limits: LimitSettings,
    /// The signing policies that the cluster has: what else was told may be forgotten.
    pub policies: BTreeSet<Digest>,
}

/// A validator has signed, and asks another one to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attest {
    /// What it signed.
    pub attestation: Attestation,
    /// Over it.
    pub signature: Signature,
}

/// A record with its proof.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Fetched {
    /// It.
    #[n(0)]
    pub record: Record,
    /// What proves it.
    #[n(1)]
    pub proof: Proof,
    /// When it was ordered, ms since 1970.
    #[n(2)]
    pub ordered_ms: u64,
    /// Place in the log of its seal.
    #[n(3)]
    pub at: LogIndex,
}

/// A part of a stream of sealed batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A sealed batch.
    Batch(Box<SealedBatch>),
    /// There is no room for another stream.
    KeepNone,
    /// All up to this place is told.
    ToldTo(LogIndex),
}

fn bytes<T: Encode<()>>(value: &T) -> Vec<u8> {
    // Writing to memory does not fail.
    minicbor::to_vec(value).unwrap_or_default()
}

fn read<T: for<'b> Decode<'b, ()>>(bytes: &[u8], what: &'static str) -> Result<T, Malformed> {
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| Malformed(what))?;
    if decoder.position() == bytes.len() { Ok(value) } else { Err(Malformed(what)) }
}

fn digest(bytes: &[u8]) -> Result<Digest, Malformed> {
    bytes.try_into().map(Digest).map_err(|_| Malformed("a digest that is not 32 bytes"))
}

fn signature(bytes: &[u8]) -> Result<Signature, Malformed> {
    bytes.try_into().map(Signature).map_err(|_| Malformed("a signature that is not 64 bytes"))
}

fn short(text: String) -> Result<String, Malformed> {
    if text.len() <= TEXT_BYTES { Ok(text) } else { Err(Malformed("a text that is too long")) }
}

/// Writes records that are handed on.
#[must_use]
pub fn handed_pb(from: &Handed) -> pb::ForwardRecords {
    pb::ForwardRecords {
        call: from.call,
        forward: bytes(&from.forward),
        records: from.records.iter().map(bytes).collect(),
    }
}

/// Reads them. `by`: who brings them, from TLS.
///
/// # Errors
/// [`Malformed`].
pub fn handed(from: &pb::ForwardRecords, by: NodeId) -> Result<Handed, Malformed> {
    let forward: Forward = read(&from.forward, "a forward that cannot be read")?;
    if forward.ingress != by {
        return Err(Malformed("another node's forward"));
    }
    if from.records.is_empty() || from.records.len() > FORWARD_RECORDS {
        return Err(Malformed("no records, or too many"));
    }
    if from.records.iter().any(|record| record.len() > RECORD_BYTES) {
        return Err(Malformed("a record that is too long"));
    }
    let records = from.records.iter().map(|record| read(record, "a record that cannot be read"));
    Ok(Handed { call: from.call, forward, records: records.collect::<Result<_, _>>()? })
}

/// Writes what became of records.
#[must_use]
pub fn handed_answer_pb(from: &HandedAnswer) -> pb::OrderedRecords {
    use pb::ordered_records::{Answers, Refused, What};
    let what = match &from.what {
        Ok(answers) => What::Answers(Answers { answers: answers.iter().map(bytes).collect() }),
        Err((code, detail)) => What::Refused(Refused { code: code.clone(), detail: detail.clone() }),
    };
    pb::OrderedRecords { call: from.call, what: Some(what) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn handed_answer(from: pb::OrderedRecords) -> Result<HandedAnswer, Malformed> {
    use pb::ordered_records::What;
    let what = match from.what.ok_or(Malformed("no answer"))? {
        What::Answers(told) if told.answers.len() <= FORWARD_RECORDS => {
            let answers = told.answers.iter().map(|answer| read(answer, "an answer that cannot be read"));
            Ok(answers.collect::<Result<_, _>>()?)
        }
        What::Answers(_) => return Err(Malformed("too many answers")),
        What::Refused(refused) => Err((short(refused.code)?, short(refused.detail)?)),
    };
    Ok(HandedAnswer { call: from.call, what })
}

/// Writes what a validator says.
#[must_use]
pub fn from_validator_pb(from: &FromValidator) -> pb::FromValidator {
    use pb::from_validator::{Able, Alive, Hello, What};
    let what = match from {
        FromValidator::Hello(hello) => What::Hello(Hello {
            cluster: hello.cluster.clone(),
            fresh: hello.fresh,
            held_to: hello.held_to.0,
            name: hello.name.clone(),
            software: hello.software.clone(),
        }),
        FromValidator::HeldTo(at) => What::HeldTo(at.0),
        FromValidator::Able { policy, why_not } => {
            What::Able(Able { policy: policy.0.to_vec(), why_not: why_not.clone() })
        }
        FromValidator::Seal(seal) => What::Seal(bytes(&**seal)),
        FromValidator::Alive => What::Alive(Alive {}),
        FromValidator::Evidence(evidence) => What::Evidence(bytes(&**evidence)),
    };
    pb::FromValidator { what: Some(what) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn from_validator(from: pb::FromValidator) -> Result<FromValidator, Malformed> {
    use pb::from_validator::What;
    Ok(match from.what.ok_or(Malformed("an empty message"))? {
        What::Hello(hello) => FromValidator::Hello(ValidatorHello {
            cluster: short(hello.cluster)?,
            fresh: hello.fresh,
            held_to: LogIndex(hello.held_to),
            name: short(hello.name)?,
            software: short(hello.software)?,
        }),
        What::HeldTo(at) => FromValidator::HeldTo(LogIndex(at)),
        What::Able(able) => {
            FromValidator::Able { policy: digest(&able.policy)?, why_not: able.why_not.map(short).transpose()? }
        }
        What::Seal(seal) => FromValidator::Seal(Box::new(read(&seal, "a certificate that cannot be read")?)),
        What::Alive(_) => FromValidator::Alive,
        What::Evidence(told) => FromValidator::Evidence(Box::new(read(&told, "evidence that cannot be read")?)),
    })
}

/// Writes what a super says to a validator.
#[must_use]
pub fn to_validator_pb(from: &ToValidator) -> pb::ToValidator {
    use pb::to_validator::{Alive, Batch, Lead, Policy, Refused, Welcome, What};
    let what = match from {
        ToValidator::Welcome { cluster, came, last_batch } => {
            What::Welcome(Welcome { cluster: cluster.clone(), came: *came, last_batch: *last_batch })
        }
        ToValidator::Refused(code, detail) => What::Refused(Refused { code: code.clone(), detail: detail.clone() }),
        ToValidator::Leading(leads) => What::Leading(*leads),
        ToValidator::Set(set) => What::Set(pb::to_validator::Set {
            validators: bytes(&set.validators),
            quorum: set.quorum,
            turn_ms: set.turn_ms,
            limits: bytes(&set.limits),
            policies: set.policies.iter().map(|digest| digest.0.to_vec()).collect(),
        }),
        ToValidator::Policy { digest, component, config } => {
            What::Policy(Policy { digest: digest.0.to_vec(), component: component.clone(), config: config.clone() })
        }
        ToValidator::Batch(batch, contents) => {
            What::Batch(Batch { batch: bytes(&**batch), contents: bytes(&**contents) })
        }
        ToValidator::Lead { batch, attempt } => What::Lead(Lead { batch: *batch, attempt: *attempt }),
        ToValidator::Sealed(batch) => What::Sealed(bytes(&**batch)),
        ToValidator::Alive => What::Alive(Alive {}),
    };
    pb::ToValidator { what: Some(what) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn to_validator(from: pb::ToValidator) -> Result<ToValidator, Malformed> {
    use pb::to_validator::What;
    Ok(match from.what.ok_or(Malformed("an empty message"))? {
        What::Welcome(welcome) => ToValidator::Welcome {
            cluster: short(welcome.cluster)?,
            came: welcome.came,
            last_batch: welcome.last_batch,
        },
        What::Refused(refused) => ToValidator::Refused(short(refused.code)?, short(refused.detail)?),
        What::Leading(leads) => ToValidator::Leading(leads),
        What::Set(set) => ToValidator::Set(Box::new(Set {
            validators: read(&set.validators, "a set that cannot be read")?,
            quorum: set.quorum,
            turn_ms: set.turn_ms,
            limits: read(&set.limits, "limits that cannot be read")?,
            policies: set.policies.iter().map(|bytes| digest(bytes)).collect::<Result<_, _>>()?,
        })),
        What::Policy(policy) => {
            ToValidator::Policy { digest: digest(&policy.digest)?, component: policy.component, config: policy.config }
        }
        What::Batch(told) => ToValidator::Batch(
            Box::new(read(&told.batch, "a batch that cannot be read")?),
            Box::new(read(&told.contents, "records that cannot be read")?),
        ),
        What::Lead(lead) => ToValidator::Lead { batch: lead.batch, attempt: lead.attempt },
        What::Sealed(bytes) => ToValidator::Sealed(Box::new(read(&bytes, "a batch that cannot be read")?)),
        What::Alive(_) => ToValidator::Alive,
    })
}

/// Writes a validator's wish for another one's signature.
#[must_use]
pub fn attest_pb(from: &Attest) -> pb::AttestRequest {
    pb::AttestRequest {
        batch: from.attestation.batch,
        attestation: from.attestation.payload(),
        signature: from.signature.0.to_vec(),
    }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn attest(from: &pb::AttestRequest) -> Result<Attest, Malformed> {
    let attestation: Attestation = read(&from.attestation, "an attestation that cannot be read")?;
    if attestation.batch != from.batch {
        return Err(Malformed("an attestation of another batch"));
    }
    Ok(Attest { attestation, signature: signature(&from.signature)? })
}

/// Writes the answer: a signature over the same attestation, or why there is none.
#[must_use]
pub fn attest_answer_pb(from: Result<Signature, String>) -> pb::AttestAnswer {
    use pb::attest_answer::{Not, What};
    let what = match from {
        Ok(signature) => What::Signature(signature.0.to_vec()),
        Err(why) => What::Not(Not { why }),
    };
    pb::AttestAnswer { what: Some(what) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn attest_answer(from: pb::AttestAnswer) -> Result<Result<Signature, String>, Malformed> {
    use pb::attest_answer::What;
    match from.what.ok_or(Malformed("an empty answer"))? {
        What::Signature(bytes) => signature(&bytes).map(Ok),
        What::Not(not) => short(not.why).map(Err),
    }
}

/// Writes a part of a stream of sealed batches.
#[must_use]
pub fn part_pb(from: &Part) -> pb::SealedPart {
    use pb::sealed_part::{KeepNone, What};
    let what = match from {
        Part::Batch(batch) => What::Batch(bytes(&**batch)),
        Part::KeepNone => What::KeepNone(KeepNone {}),
        Part::ToldTo(at) => What::ToldTo(at.0),
    };
    pb::SealedPart { what: Some(what) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn part(from: pb::SealedPart) -> Result<Part, Malformed> {
    use pb::sealed_part::What;
    Ok(match from.what.ok_or(Malformed("an empty part"))? {
        What::Batch(bytes) => Part::Batch(Box::new(read(&bytes, "a sealed batch that cannot be read")?)),
        What::KeepNone(_) => Part::KeepNone,
        What::ToldTo(at) => Part::ToldTo(LogIndex(at)),
    })
}

/// Writes the wish for one record.
#[must_use]
pub fn fetch_pb(cluster: &str, digest: Digest, wait_ms: u64) -> pb::FetchRequest {
    pb::FetchRequest { cluster: cluster.into(), digest: digest.0.to_vec(), wait_ms }
}

/// Reads its digest.
///
/// # Errors
/// [`Malformed`].
pub fn fetch(from: &pb::FetchRequest) -> Result<Digest, Malformed> {
    digest(&from.digest)
}

/// Writes the answer.
#[must_use]
pub fn fetched_pb(from: Option<&Fetched>) -> pb::FetchAnswer {
    use pb::fetch_answer::{Missing, What};
    pb::FetchAnswer { what: Some(from.map_or(What::Missing(Missing {}), |found| What::Found(bytes(found)))) }
}

/// Reads it.
///
/// # Errors
/// [`Malformed`].
pub fn fetched(from: pb::FetchAnswer) -> Result<Option<Fetched>, Malformed> {
    use pb::fetch_answer::What;
    match from.what.ok_or(Malformed("an empty answer"))? {
        What::Found(bytes) => read(&bytes, "a record that cannot be read").map(Some),
        What::Missing(_) => Ok(None),
    }
}
